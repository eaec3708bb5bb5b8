"""The commands of people who operate cropline: backfill, replay, maintain, and what stands up the whole.

Belongs here: names, options and help. Does not: what a command does (a file each).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cropline.cli import quarantine

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="show the logs of the run")]
Since = Annotated[str | None, typer.Option(help="captured at or after, ISO 8601; without an offset it is UTC")]
Until = Annotated[str | None, typer.Option(help="captured before; not given: now")]
Stores = Annotated[list[str] | None, typer.Option("--store", help="id of a store; can be repeated")]
Cameras = Annotated[list[str] | None, typer.Option("--camera", help="id of a camera; can be repeated")]
Profiles = Annotated[list[str] | None, typer.Option("--profile", help="name of a crop profile; can be repeated")]
Order = Annotated[Literal["newest", "oldest"], typer.Option(help="which photos come first")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be done and what it takes; do nothing")]
MaxBatches = Annotated[int | None, typer.Option(min=1, help="stop after so many batches")]
AtOnce = Annotated[int, typer.Option("--concurrency", min=1, max=16, help="batches under way at once")]
MaxImages = Annotated[int | None, typer.Option(min=1, help="stop after so many photos")]
MaxCalls = Annotated[int | None, typer.Option(min=1, help="read at most so many pages of the image API")]
MaxPuts = Annotated[int | None, typer.Option(min=1, help="stop after so many stored crops")]
MaxBytes = Annotated[int | None, typer.Option(min=1, help="stop after so many downloaded bytes")]


def add_to(app: typer.Typer) -> None:
    """Give the app these commands."""
    for command in (
        watch, plan, backfill, replay, maintain, forget, export, deploy, up, copy_state, move_state, check_storage,
    ):  # fmt: skip
        app.command()(command)
    app.add_typer(quarantine.app)


def watch(
    every_s: Annotated[float, typer.Option("--every", min=0.1, max=60, help="seconds from look to look")] = 1.0,
    minutes: Annotated[float, typer.Option(min=0.01, max=1440, help="how long")] = 60,
    verbose: Verbose = False,
) -> None:
    """Look for new photos every second and crop them at once, in one process; Ctrl-C ends it."""
    from cropline.cli.watch import run_watch

    _quiet(verbose)
    run_watch(every_s, minutes)


def plan() -> None:
    """What today's profiles would cut again: photos, bytes, crops and PUTs. Does nothing."""
    from cropline.cli.plan import show_plan

    show_plan()


def backfill(
    since: Since = None,
    until: Until = None,
    store: Stores = None,
    camera: Cameras = None,
    profile: Profiles = None,
    announced: Annotated[
        Literal["api", "manifests"], typer.Option("--from", help="ask the image API again, or read landed manifests")
    ] = "api",
    mode: Annotated[
        Literal["missing", "failed", "all"], typer.Option(help="what is new or changed, what failed, or everything")
    ] = "missing",
    order: Order = "newest",
    dry_run: DryRun = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="with --mode all: forget what an unfinished run has done")
    ] = False,
    max_batches: MaxBatches = None,
    concurrency: AtOnce = 1,
    max_images: MaxImages = None,
    max_api_calls: MaxCalls = None,
    max_puts: MaxPuts = None,
    max_bytes: MaxBytes = None,
    verbose: Verbose = False,
) -> None:
    """Crop photos of a window that polls did not, or did otherwise. Run it again to go on where it stopped."""
    from cropline.cli.backfill import asked_photos, run_backfill

    _quiet(verbose)
    photos = asked_photos(since=since, until=until, stores=store, cameras=camera, profiles=profile)
    limits = _limits(max_batches, concurrency, max_images, max_api_calls, max_puts, max_bytes)
    run_backfill(photos, announced, mode, order, dry_run=dry_run, restart=restart, limits=limits)


def replay(
    ended: Annotated[
        list[str] | None,
        typer.Option(help="failed, dead, quarantined or partial; can be repeated; not given: failed and dead"),
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="reason code or expectation; can be repeated; not given: any")
    ] = None,
    since: Since = None,
    until: Until = None,
    store: Stores = None,
    camera: Cameras = None,
    profile: Profiles = None,
    order: Order = "newest",
    dry_run: DryRun = False,
    max_batches: MaxBatches = None,
    concurrency: AtOnce = 1,
    max_images: MaxImages = None,
    verbose: Verbose = False,
) -> None:
    """Try again what failed, is dead or lies in quarantine, after its cause was mended. Never what succeeded."""
    from cropline.cli.backfill import asked_ended, asked_photos, run_replay

    _quiet(verbose)
    photos = asked_photos(since=since, until=until, stores=store, cameras=camera, profiles=profile)
    limits = _limits(max_batches, concurrency, max_images, None, None, None)
    run_replay(asked_ended(ended), reason or [], photos, order, dry_run=dry_run, limits=limits)


def maintain(
    keep_days: Annotated[int, typer.Option(min=1, max=3650, help="versions younger than this stay readable")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count what would go; do nothing")] = False,
    verbose: Verbose = False,
) -> None:
    """Maintenance of the catalogue: merge small files, delete old ones, shorten the log."""
    from cropline.cli.backfill import run_maintain

    _quiet(verbose)
    run_maintain(keep_days, dry_run=dry_run)


def forget(
    image: Annotated[list[str] | None, typer.Option(help="id of a photo; can be repeated")] = None,
    store: Annotated[list[str] | None, typer.Option(help="all photos of this store so far; can be repeated")] = None,
    before: Annotated[
        str | None, typer.Option(help="all photos captured before, ISO 8601; without an offset it is UTC")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go; do nothing")] = False,
) -> None:
    """Remove all crops of some photos, their catalogue rows and their work, for good; a receipt says what went."""
    from cropline.cli.forget import asked_selection, run_forget

    run_forget(asked_selection(image, store, before), dry_run=dry_run)


def export(
    out: Annotated[Path, typer.Argument(help="a new folder")],
    where: Annotated[
        str | None,
        typer.Option(help="SQL condition over the catalogue's columns: store_id = 's1' and label like 'cola%'"),
    ] = None,
    kind: Annotated[
        Literal["folder", "webdataset", "parquet", "coco"], typer.Option("--format", help="what tools shall read it")
    ] = "folder",
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many crops, the first by key")] = None,
    profile: Profiles = None,
) -> None:
    """Copy the crops of a condition into a local folder, with what is known of each."""
    from cropline.cli.export import run_export

    run_export(out, where, kind, limit, profile or ())


def deploy(
    file: Annotated[
        Path | None, typer.Option(help="the deployments; not given: prefect.yaml here, else the one of the package")
    ] = None,
) -> None:
    """Put pool, rate limit, deployments and the zombie automation on the Prefect server that PREFECT_API_URL names."""
    from automations.deploy import deploy as put

    put(file)


def up(
    out: Annotated[Path, typer.Option(help="folder for the server's data, logs and the demo's output")] = Path(
        "cropline-up"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the Prefect server; 0 takes a free one")] = 4200,
    demo: Annotated[bool, typer.Option(help="simulated cameras; without them your own API settings are used")] = True,
) -> None:
    """The whole stack on this machine until Ctrl-C: Prefect server, worker, deployments, simulated cameras."""
    from cropline.cli.up import run_up

    run_up(out, port, demo=demo)


def copy_state(
    to_env: Annotated[
        str, typer.Option(help="environment variable with the new database's URL: it may hold a password")
    ],
) -> None:
    """Copy the state database of the settings into another, empty one. Nothing may run meanwhile."""
    from cropline.cli.copy_state import run_copy

    run_copy(to_env)


def move_state(
    storage: Annotated[bool, typer.Option("--storage", help="it belongs to the storage of the settings now")] = False,
    api: Annotated[bool, typer.Option("--api", help="its source is polled at the API of the settings now")] = False,
) -> None:
    """Say that the storage or the image API has moved: the state database belongs to those of the settings from now on."""
    from cropline.cli.move_state import run_move

    run_move(storage=storage, api=api)


def check_storage() -> None:
    """Try out what CROPLINE_STORAGE__URL must be able to do, with one random key; exit code 2 when something is missing."""
    from cropline.cli.check_storage import show_promises

    show_promises()


def _limits(
    batches: int | None, at_once: int, images: int | None, calls: int | None, puts: int | None, size: int | None
) -> dict[str, int | None]:
    return {
        "max_batches": batches,
        "concurrency": at_once,
        "images": images,
        "api_calls": calls,
        "puts": puts,
        "bytes": size,
    }


def _quiet(verbose: bool) -> None:
    from cropline.cli import quiet_prefect

    quiet_prefect(verbose)
