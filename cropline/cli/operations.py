"""Names, options and help of the commands for operators: backfill, replay, maintain, deploy and others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cropline.cli import quarantine, trials
from cropline.cli.options import EverySource, Source

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="show the logs of the run")]
Since = Annotated[str | None, typer.Option(help="captured at or after, ISO 8601; without an offset it is UTC")]
Until = Annotated[str | None, typer.Option(help="captured before, ISO 8601; default: now")]
Stores = Annotated[list[str] | None, typer.Option("--store", help="id of a store; can be repeated")]
Cameras = Annotated[list[str] | None, typer.Option("--camera", help="id of a camera; can be repeated")]
Profiles = Annotated[list[str] | None, typer.Option("--profile", help="name of a crop profile; can be repeated")]
Order = Annotated[Literal["newest", "oldest"], typer.Option(help="which photos come first, by capture time")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="show what would be done and what it would cost, and do nothing")
]
MaxBatches = Annotated[int | None, typer.Option(min=1, help="stop after this many batches")]
AtOnce = Annotated[int, typer.Option("--concurrency", min=1, max=16, help="batches in progress at the same time")]
MaxImages = Annotated[int | None, typer.Option(min=1, help="stop after this many photos")]
MaxCalls = Annotated[int | None, typer.Option(min=1, help="read at most this many pages of the image API")]
MaxPuts = Annotated[int | None, typer.Option(min=1, help="stop after this many stored crops")]
MaxBytes = Annotated[int | None, typer.Option(min=1, help="stop after this many downloaded bytes")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    for command in (
        watch, plan, backfill, replay, maintain, forget, export, changes, deploy, up, copy_state, move_state, check_storage, metrics, gallery, timeline,
    ):  # fmt: skip
        app.command()(command)
    trials.add_to(app)
    app.add_typer(quarantine.app)
    app.command()(init)
    app.command()(check)


def watch(
    every_s: Annotated[float, typer.Option("--every", min=0.1, max=60, help="seconds between polls")] = 1.0,
    minutes: Annotated[float, typer.Option(min=0.01, max=1440, help="minutes to run")] = 60,
    source: Source = None,
    verbose: Verbose = False,
) -> None:
    """Poll every second and crop new photos at once. It runs in one process until Ctrl-C."""
    from cropline.cli.watch import run_watch

    _quiet(verbose)
    run_watch(every_s, minutes, source)


def plan(source: Source = None) -> None:
    """Show what the current profiles would crop again. Counts photos, bytes, crops and PUTs; changes nothing."""
    from cropline.cli.plan import show_plan

    show_plan(source)


def backfill(
    source: Source = None,
    since: Since = None,
    until: Until = None,
    store: Stores = None,
    camera: Cameras = None,
    profile: Profiles = None,
    announced: Annotated[
        Literal["api", "manifests"],
        typer.Option("--from", help="list images from the image API, or from the manifests of earlier polls"),
    ] = "api",
    mode: Annotated[
        Literal["missing", "failed", "all"],
        typer.Option(help="crop what is new or changed, what failed, or everything"),
    ] = "missing",
    order: Order = "newest",
    dry_run: DryRun = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="with --mode all: start again instead of resuming an unfinished run")
    ] = False,
    max_batches: MaxBatches = None,
    concurrency: AtOnce = 1,
    max_images: MaxImages = None,
    max_api_calls: MaxCalls = None,
    max_puts: MaxPuts = None,
    max_bytes: MaxBytes = None,
    verbose: Verbose = False,
) -> None:
    """Crop the photos of a time window that polls missed. It also crops what polls cropped differently. Run it again to resume."""
    from cropline.cli.backfill import asked_photos, run_backfill

    _quiet(verbose)
    photos = asked_photos(since=since, until=until, stores=store, cameras=camera, profiles=profile)
    limits = _limits(max_batches, concurrency, max_images, max_api_calls, max_puts, max_bytes)
    run_backfill(photos, announced, mode, order, dry_run=dry_run, restart=restart, limits=limits, source=source)


def replay(
    ended: Annotated[
        list[str] | None,
        typer.Option(help="failed, dead, quarantined or partial; can be repeated; default: failed and dead"),
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="reason code or expectation; can be repeated; default: any")
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
    source: Source = None,
    verbose: Verbose = False,
) -> None:
    """Try again what failed, is dead or is quarantined. Fix the cause first. What succeeded is never repeated."""
    from cropline.cli.backfill import asked_ended, asked_photos, run_replay

    _quiet(verbose)
    photos = asked_photos(since=since, until=until, stores=store, cameras=camera, profiles=profile)
    limits = _limits(max_batches, concurrency, max_images, None, None, None)
    run_replay(asked_ended(ended), reason or [], photos, order, dry_run=dry_run, limits=limits, source=source)


def maintain(
    keep_days: Annotated[
        int, typer.Option(min=1, max=3650, help="keep versions of the catalogue that are younger than this readable")
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count what would be removed, and do nothing")] = False,
    verbose: Verbose = False,
) -> None:
    """Maintain the catalogue, the storage and the state. It runs compaction, vacuum, retention and orphan removal."""
    from cropline.cli.backfill import run_maintain

    _quiet(verbose)
    run_maintain(keep_days, dry_run=dry_run)


def forget(
    image: Annotated[list[str] | None, typer.Option(help="id of a photo; can be repeated")] = None,
    store: Annotated[
        list[str] | None, typer.Option(help="id of a store: all of its photos so far; can be repeated")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="all photos captured before, ISO 8601; without an offset it is UTC")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be removed, and do nothing")] = False,
    source: Source = None,
) -> None:
    """Erase everything made from some photos, for good. A receipt lists what was removed."""
    from cropline.cli.forget import asked_selection, run_forget

    run_forget(asked_selection(image, store, before), dry_run=dry_run, source=source)


def export(
    out: Annotated[Path, typer.Argument(help="a new folder")],
    where: Annotated[
        str | None,
        typer.Option(help="SQL condition on the catalogue's columns, such as: store_id = 's1' and label like 'cola%'"),
    ] = None,
    kind: Annotated[
        Literal["folder", "webdataset", "parquet", "coco"], typer.Option("--format", help="layout of the export")
    ] = "folder",
    limit: Annotated[int | None, typer.Option(min=1, help="export at most this many crops, the first by key")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="export this many crops, chosen at random")] = None,
    seed: Annotated[int, typer.Option(min=0, help="for --sample and --split: the same seed chooses the same")] = 0,
    profile: Profiles = None,
    version: Annotated[
        str | None,
        typer.Option(help="version of the catalogue, as a number or as a time in ISO 8601 (UTC); default: the newest"),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="parts and their shares, such as: train=0.8,val=0.2; all crops of a photo are in one part"),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="with --split: a column whose values stay together, such as store_id")
    ] = None,
    categories: Annotated[
        Path | None,
        typer.Option(
            help="coco: JSON file with the ids of labels; new labels are added to it; without it ids may change"
        ),
    ] = None,
    with_photos: Annotated[
        bool, typer.Option("--with-photos", help="coco: fetch the photos again; without it the crops are the images")
    ] = False,
) -> None:
    """Copy crops and their catalogue rows into a local folder."""
    from cropline.cli.export import run_export
    from cropline.cli.versions import read_version
    from cropline.export import Choice

    wanted = read_version(version, "--version") if version is not None else None
    choice = Choice(where, tuple(profile or ()), limit, sample, seed, wanted)
    run_export(out, choice, kind, split=split, by=by, categories=categories, with_photos=with_photos)


def changes(
    since: Annotated[
        str | None,
        typer.Option(help="a version of the catalogue, as a number or a time in ISO 8601 (UTC); default: from nothing"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="a version, as --since; default: the newest")] = None,
    cursor: Annotated[
        Path | None, typer.Option(help="a file with the last version: it is read first, and written at the end")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="a file, .parquet or JSON lines; default: JSON lines on standard output")
    ] = None,
) -> None:
    """List what was added, updated, superseded or erased between two versions of the catalogue."""
    from cropline.cli.changes import run_changes

    run_changes(since, until, cursor, out)


def deploy(
    file: Annotated[
        Path | None,
        typer.Option(
            help="file with the deployments; default: prefect.yaml in this folder, else the one in the package"
        ),
    ] = None,
) -> None:
    """Set up the Prefect server at PREFECT_API_URL. It creates work pool, rate limit, deployments and automations."""
    from automations.deploy import deploy as put

    put(file)


def up(
    out: Annotated[Path, typer.Option(help="folder for the server's data, logs and the demo's output")] = Path(
        "cropline-up"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of the Prefect server; 0: a free one")] = 4200,
    demo: Annotated[bool, typer.Option(help="simulate cameras, or use your own API settings")] = True,
) -> None:
    """Run everything on this machine until Ctrl-C. It starts Prefect server, worker, deployments and simulated cameras."""
    from cropline.cli.up import run_up

    run_up(out, port, demo=demo)


def copy_state(
    to_env: Annotated[
        str,
        typer.Option(help="name of the environment variable with the new database's URL (the URL may hold a password)"),
    ],
) -> None:
    """Copy the state database into another, empty one. Pause the work pool first."""
    from cropline.cli.copy_state import run_copy

    run_copy(to_env)


def move_state(
    storage: Annotated[bool, typer.Option("--storage", help="bind it to the storage in the settings")] = False,
    api: Annotated[bool, typer.Option("--api", help="bind its source to the API in the settings")] = False,
    source: Source = None,
) -> None:
    """Bind the state to a moved storage or image API. It uses the storage and the API in the settings."""
    from cropline.cli.move_state import run_move

    run_move(storage=storage, api=api, source=source)


def init(
    url: Annotated[
        str, typer.Option(help="address of the listing as it works in a browser; default: it is asked for")
    ] = "",
    out: Annotated[Path, typer.Option(help="the file to write; it must not exist")] = Path("cropline.toml"),
    token_env: Annotated[
        str, typer.Option(help="name of the variable with the token or password; default: CROPLINE_API__TOKEN")
    ] = "",
    auth: Annotated[
        str, typer.Option(help="bearer, header:NAME, query:NAME or basic; default: the usual ones are tried")
    ] = "",
    user: Annotated[str, typer.Option(help="the user, with --auth basic")] = "",
    method: Annotated[Literal["GET", "POST"], typer.Option(help="method of the listing")] = "GET",
    body: Annotated[
        str, typer.Option(help="with --method POST: the body, JSON with {since} {cursor} {page} {offset} {limit}")
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option(help="NAME=VARIABLE: a header, and the variable with its value; can be repeated")
    ] = None,
    url_base: Annotated[str, typer.Option(help="base of relative addresses of photos")] = "",
    source: Annotated[str, typer.Option(help="name of the source in keys, tables and lineage")] = "",
    storage: Annotated[str, typer.Option(help="CROPLINE_STORAGE__URL, to be written too")] = "",
    state: Annotated[str, typer.Option(help="CROPLINE_STATE__URL, to be written too; without a password")] = "",
    value: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of the file, such as api.time_zone=Europe/Berlin; can be repeated"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="accept every proposal, and ask nothing")] = False,
    check_it: Annotated[bool, typer.Option("--check/--no-check", help="run cropline check afterwards")] = True,
) -> None:
    """Look at one page of an API, propose its settings, write cropline.toml, and check it. It never writes a secret."""
    from cropline.cli.init import InitOptions, run_init

    options = InitOptions(
        url,
        out,
        token_env,
        auth,
        user,
        method,
        body,
        header or (),
        url_base,
        source,
        storage,
        state,
        value or (),
        yes,
        check_it,
    )
    if not run_init(options):
        raise typer.Exit(1)


def check(
    source: EverySource = None,
    out: Annotated[
        Path | None, typer.Option(help="file or folder for the picture; default: a new temporary folder")
    ] = None,
    photo: Annotated[bool, typer.Option(help="fetch one photo and draw its boxes")] = True,
) -> None:
    """Check settings, source, storage, database, engine and Prefect server. The exit code is 1 when something is wrong."""
    from cropline.cli.check import run_check

    if not run_check(source, out, photo=photo):
        raise typer.Exit(1)


def check_storage() -> None:
    """Test whether the storage has all that runs need. The exit code is 2 when an operation is missing."""
    from cropline.cli.check_storage import show_promises

    show_promises()


def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0: a free one")] = 9108,
    host: Annotated[str, typer.Option(help="address to listen on; it has no password, so keep it in your network")] = (
        "127.0.0.1"
    ),
    window: Annotated[float, typer.Option(min=1, max=1440, help="minutes over which crops are added up")] = 15,
) -> None:
    """Serve figures for Prometheus until Ctrl-C: backlog, age, failures, crops, catalogue, last successes."""
    from cropline.cli.metrics import run_metrics

    run_metrics(host, port, window)


def gallery(
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0: a free one")] = 8300,
    host: Annotated[str, typer.Option(help="address to listen on; another than loopback needs --token")] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="GALLERY_TOKEN",
            help="what a browser must give once; as an option, other users of this machine can see it",
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="folder for thumbnails; default: cropline in the user's cache folder")
    ] = None,
    cache_mb: Annotated[int, typer.Option(min=1, help="the most that thumbnails take, in MB")] = 500,
) -> None:
    """Look at crops, photos, slots over time, runs and quarantine in a browser, until Ctrl-C. It changes nothing."""
    from cropline.cli.gallery import run_gallery

    run_gallery(host, port, token, cache, cache_mb)


def timeline(
    camera: Annotated[str, typer.Option(help="id of the camera")],
    box: Annotated[str, typer.Option(help="id of a box in one of its photos: the slot is its place on the shelf")],
    since: Annotated[str, typer.Option(help="captured at or after, ISO 8601; without an offset it is UTC")],
    until: Until = None,
    image: Annotated[str, typer.Option(help="id of the photo with the box; default: the newest")] = "",
    profile: Annotated[str, typer.Option(help="name of a crop profile; default: the last by name")] = "",
    source: Annotated[str, typer.Option(help="name of the source; default: CROPLINE_API__SOURCE")] = "",
    out: Annotated[Path, typer.Option(help="folder for strip.png and timeline.csv")] = Path("timeline"),
) -> None:
    """Show one slot of a shelf over time: a picture of its crops, and a table with gaps and changes."""
    from cropline.cli.timeline import asked_slot, run_timeline

    run_timeline(*asked_slot(source, camera, box, image, profile, since, until), out)


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
