"""``cropline quarantine``: list, show and replay bad rows of manifests. Rows never leave quarantine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from cropline.cli.options import Source

if TYPE_CHECKING:
    from cropline.config.settings import Settings
    from cropline.core.screen import Screen
    from cropline.intake.quarantine import Entry, QuarantineFilter

ReplayStatus = Literal["waiting", "replayed", "superseded"]
REPLAY_STATUSES: tuple[ReplayStatus, ...] = get_args(ReplayStatus)

app = typer.Typer(
    name="quarantine",
    help="List, show and replay bad rows of manifests.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Manifests = Annotated[
    list[str] | None, typer.Option("--manifest", help="storage key of a manifest, or the end of it; can be repeated")
]
Rules = Annotated[list[str] | None, typer.Option("--rule", help="broken expectation; can be repeated")]
Stores = Annotated[list[str] | None, typer.Option("--store", help="id of a store; can be repeated")]
Cameras = Annotated[list[str] | None, typer.Option("--camera", help="id of a camera; can be repeated")]
Since = Annotated[str | None, typer.Option(help="captured at or after, ISO 8601; without an offset it is UTC")]
Until = Annotated[str | None, typer.Option(help="captured before, ISO 8601")]
Which = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        help="waiting, replayed, or superseded (a good row of the same photo came later); can be repeated",
    ),
]


@app.command(name="list")
def list_rows(
    manifest: Manifests = None,
    rule: Rules = None,
    store: Stores = None,
    camera: Cameras = None,
    since: Since = None,
    until: Until = None,
    status: Which = None,
    source: Source = None,
) -> None:
    """Count the rows in quarantine by manifest and by rule."""
    from cropline.core.screen import Screen

    settings, wanted = _asked(manifest, rule, store, camera, since, until, source=source)
    screen = Screen()
    sums = _sum_up(_found(settings, wanted, _statuses(status)))
    if not sums.manifests:
        screen.print("Nothing in quarantine" + (" that matches." if wanted != _any() or status else "."))
        return
    for table in _tables(sums):
        screen.print(table)
        screen.print()
    screen.print(
        "To see rows: cropline quarantine show. To try them again: cropline quarantine replay.", soft_wrap=True
    )


@app.command()
def show(
    image_id: Annotated[list[str] | None, typer.Argument(help="ids of images; default: all")] = None,
    manifest: Manifests = None,
    rule: Rules = None,
    store: Stores = None,
    camera: Cameras = None,
    since: Since = None,
    until: Until = None,
    status: Which = None,
    source: Source = None,
    limit: Annotated[int, typer.Option(min=1, help="show at most this many rows")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object per row")] = False,
) -> None:
    """Show rows as they came, without secrets, with the rules they break."""
    from cropline.core.screen import Screen

    settings, wanted = _asked(manifest, rule, store, camera, since, until, image_id, source=source)
    screen = Screen()
    shown = left = 0
    for entry, entry_status in _found(settings, wanted, _statuses(status)):
        if shown == limit:
            left += 1
            continue
        shown += 1
        if as_json:
            typer.echo(json.dumps(_plain(entry, entry_status), default=str))
        else:
            _print(screen, entry, entry_status)
    if not shown and not as_json:
        screen.print("No row in quarantine matches.")
    if left and not as_json:
        screen.print(f"{left:,} more rows; use --limit to see them")


@app.command()
def replay(
    manifest: Manifests = None,
    rule: Rules = None,
    store: Stores = None,
    camera: Cameras = None,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be done, and do nothing")] = False,
    source: Source = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show the logs of the run")] = False,
) -> None:
    """Validate rows again and crop the good ones. Uses the current mapping and rules."""
    from cropline.cli import quiet_prefect
    from cropline.cli.backfill import asked_photos, run_replay

    quiet_prefect(verbose)
    photos = asked_photos(since=since, until=until, stores=store, cameras=camera)
    _check_rules(rule or ())
    run_replay(
        ["quarantined"],
        rule or (),
        photos,
        "newest",
        dry_run=dry_run,
        limits={},
        manifests=manifest or (),
        source=source,
    )


def _any() -> QuarantineFilter:
    from cropline.intake.quarantine import QuarantineFilter

    return QuarantineFilter()


def _asked(
    manifests: Sequence[str] | None,
    rules: Sequence[str] | None,
    stores: Sequence[str] | None,
    cameras: Sequence[str] | None,
    since: str | None,
    until: str | None,
    images: Sequence[str] | None = None,
    *,
    source: str | None = None,
) -> tuple[Settings, QuarantineFilter]:
    from cropline.cli.backfill import asked_photos
    from cropline.config.settings import load_settings
    from cropline.core.request import in_utc
    from cropline.intake.quarantine import QuarantineFilter

    photos = asked_photos(since=since, until=until, stores=stores, cameras=cameras)
    _check_rules(rules or ())
    wanted = QuarantineFilter(
        tuple(manifests or ()),
        tuple(rules or ()),
        tuple(photos.stores),
        tuple(photos.cameras),
        tuple(images or ()),
        in_utc(photos.since) if photos.since else None,
        in_utc(photos.until) if photos.until else None,
    )
    return load_settings(source), wanted


def _statuses(names: Sequence[str] | None) -> Sequence[str]:
    for name in names or ():
        if name not in REPLAY_STATUSES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(REPLAY_STATUSES)}", param_hint="--status")
    return names or REPLAY_STATUSES


def _check_rules(names: Iterable[str]) -> None:
    from expectations.manifest import quarantine_rules

    known = quarantine_rules()
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(sorted(known))}", param_hint="--rule")


def _found(
    settings: Settings, wanted: QuarantineFilter, statuses: Sequence[str]
) -> Iterator[tuple[Entry, ReplayStatus]]:
    from itertools import islice

    from cropline.catalogue import Catalogue
    from cropline.intake.quarantine import find
    from cropline.state import State

    catalogue = Catalogue(settings.storage.spec)
    entries = find(settings.storage.spec, settings.api.source, wanted)
    with State.open(settings.state) as state:
        while part := list(islice(entries, 500)):
            known = _updates(state, catalogue, settings.api.source, part)
            for entry in part:
                entry_status = _status(entry, settings.profiles, known)
                if entry_status in statuses:
                    yield entry, entry_status


def _updates(state: Any, catalogue: Any, source: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return image id -> ``updated_at`` of the good row in the state."""
    from cropline.pipeline.known_photos import find_known

    ids = list(dict.fromkeys(entry.row["image_id"] for entry in entries if entry.row["image_id"]))
    return {
        work.image_id: work.updated_at
        for work in find_known(state, catalogue, source, ids)
        if work.state != "quarantined"
    }


def _status(entry: Entry, profiles: Iterable[str], good: dict[str, Any]) -> ReplayStatus:
    from expectations.manifest import VERSION_RULE_NAMES

    if entry.replayed(list(profiles)):
        return "replayed"
    row = entry.row
    if set(row["broken"]) <= VERSION_RULE_NAMES:
        return "superseded"
    if row["image_id"] not in good:
        return "waiting"
    known, ours = good[row["image_id"]], row["updated_at"]
    # A row without updated_at counts as the oldest, as in a replay.
    return "superseded" if ours is None or (known is not None and known >= ours) else "waiting"


@dataclass
class _Sums:
    manifests: dict[str, Counter[str]] = field(default_factory=dict)  # rows by status
    broken: dict[str, Counter[str]] = field(default_factory=dict)  # rows by rule
    docs: dict[str, str] = field(default_factory=dict)


def _sum_up(found: Iterable[tuple[Entry, ReplayStatus]]) -> _Sums:
    sums = _Sums()
    for entry, entry_status in found:
        key, _ = entry.place
        sums.manifests.setdefault(key, Counter())[entry_status] += 1
        sums.broken.setdefault(key, Counter()).update(entry.row["broken"])
        if entry.row["docs"]:
            sums.docs[key] = entry.row["docs"]
    return sums


def _tables(sums: _Sums) -> Iterator[Any]:
    from rich.table import Table

    from expectations.manifest import quarantine_rules

    plain = {"show_edge": False, "pad_edge": False, "header_style": "bold"}
    by_manifest = Table("manifest", "rows", *REPLAY_STATUSES, "broken rules", **plain)  # type: ignore[arg-type]
    for key, rows in sums.manifests.items():
        numbers = [rows.total(), *(rows[name] for name in REPLAY_STATUSES)]
        rules = ", ".join(f"{name} {count:,}" for name, count in sums.broken[key].most_common(4))
        more = len(sums.broken[key]) - 4
        where = key + (f"\n  {sums.docs[key]}" if key in sums.docs else "")
        shown = [f"{number:,}" if number else "" for number in numbers]
        by_manifest.add_row(where, *shown, f"{rules} and {more} more" if more > 0 else rules)
    yield by_manifest
    by_manifest.columns[0].overflow = "fold"
    by_rule = Table("rule", "rows", "what a good row is", **plain)  # type: ignore[arg-type]
    said = quarantine_rules()
    total: Counter[str] = sum(sums.broken.values(), Counter())
    for name, count in total.most_common():
        by_rule.add_row(name, f"{count:,}", said.get(name, "a rule of another cropline version"))
    for table in (by_manifest, by_rule):
        for column in table.columns[1:5] if table is by_manifest else table.columns[1:2]:
            column.justify = "right"
    yield by_rule


def _plain(entry: Entry, entry_status: ReplayStatus) -> dict[str, Any]:
    marks = [{"flow_run": mark.flow_run, "at": mark.at, "profiles": mark.profiles} for mark in entry.marks]
    return {"status": entry_status, "replays": marks, **entry.row}


_BOXES_SHOWN = 5


def _print(screen: Screen, entry: Entry, entry_status: ReplayStatus) -> None:
    from cropline.core.screen import plain
    from cropline.core.scrub import visible
    from expectations.manifest import quarantine_rules

    row, said = entry.row, quarantine_rules()
    colour = {"waiting": "yellow", "replayed": "green", "superseded": "dim"}[entry_status]
    name = plain(row["image_id"] or "(no id)")
    screen.print(f"[bold]{name}[/bold]  [{colour}]{entry_status}[/{colour}]", markup=True, soft_wrap=True)
    for rule in row["broken"]:
        screen.print(f"  breaks    {rule}: {said.get(rule, '')}", soft_wrap=True)
    for what, text in _facts(row):
        screen.print(f"  {what:<9} {visible(text)}", soft_wrap=True)
    for mark in entry.marks:
        names = ", ".join(mark.profiles)
        screen.print(
            f"  replayed  {mark.at:%Y-%m-%d %H:%M} UTC by flow run {mark.flow_run} for {names}", soft_wrap=True
        )
    screen.print()


def _facts(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "manifest", f"{row['manifest']}, row {row['row']}"
    yield "photo", f"{row['url']}"
    yield "taken", f"{row['captured_at']} by {row['camera_id']} in {row['store_id']}, updated {row['updated_at']}"
    yield "declared", f"{row['width']} x {row['height']} px, {row['bytes']} bytes, sha256 {row['sha256']}"
    boxes = row["boxes"]
    yield "boxes", "no list" if boxes is None else f"{len(boxes)}, {row['coordinates']}, {row['orientation']}"
    for box in (boxes or [])[:_BOXES_SHOWN]:
        yield "", ", ".join(f"{name} {value}" for name, value in (box or {}).items())
    if boxes and len(boxes) > _BOXES_SHOWN:
        yield "", f"and {len(boxes) - _BOXES_SHOWN} more"
    if row["unreadable"]:
        yield "unread", ", ".join(row["unreadable"])
    if row["docs"]:
        yield "Data Docs", row["docs"]
