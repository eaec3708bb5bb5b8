"""claim_planned: lands, registers or requeues the work items of one slice of a plan, and claims them as a batch.

Only the slices in progress are pending or claimed before their commit. When the run dies, other runs find no more than
these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import task

from cropline.backfill.choose import Row
from cropline.backfill.plan import Plan, Slice
from cropline.core.keys import fingerprint
from cropline.intake import manifest
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import Run
from tasks.claim import freed_on_failure
from tasks.options import STEP
from tasks.refresh import refreshed_first
from tasks.register import registered_profiles

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import Batch, WorkState

# The position of a landed row: manifest key and row number.
Place = tuple[str, int]

_KEEP_ALL_DIGESTS = datetime(1, 1, 2, tzinfo=UTC)


def claim_planned(run: Run, plan: Plan, part: Slice) -> Batch | None:
    """Claim the slice's work items. Return None when other runs have all of them."""
    _requeue(run, part)
    landed = _register(run, plan, part)
    batch = run.state.claim(
        limit=part.count, owner=run.context.flow_run_id, source=run.settings.api.source, images=part.image_ids
    )
    if batch is None:
        return None
    with freed_on_failure(run, batch):
        return refreshed_first(run, batch, announced_now=landed, signed=plan.asks_again)


claim_planned_task = task(name="claim planned", task_run_name="claim planned: {part.count} images", **STEP)(
    claim_planned
)


def quarantine_bad(run: Run, plan: Plan) -> int:
    """Land the plan's bad rows and register them as quarantined, with their reasons. Return how many."""
    from cropline.intake.quarantine import add_rows
    from expectations.quarantine import quarantine_table
    from expectations.validate import Verdict

    places = _landed(run, plan, plan.bad)
    for key, broken in _by_manifest(plan.bad, places).items():
        rows = manifest.read(run.spec, key)
        verdict = Verdict(bad_rows=broken, outcomes=[], critical=[], rows=rows.num_rows, docs_url=None)
        add_rows(run.spec, key, quarantine_table(rows, verdict, key))
    _write(run, [_candidate(run, row, name, places[id(row)]) for row in plan.bad for name in run.settings.profiles])
    return len(plan.bad)


quarantine_task = task(name="quarantine", task_run_name="quarantine bad rows", **STEP)(quarantine_bad)


def _register(run: Run, plan: Plan, part: Slice) -> set[str]:
    """Register the slice. Return the manifests that were landed for it: their URLs are new."""
    work_items = [(work.row, work.profile) for work in part.work_items if work.registers and work.row is not None]
    if not work_items:
        return set()
    places = _landed(run, plan, [row for row, _ in work_items])
    _write(run, [_candidate(run, row, profile, places[id(row)]) for row, profile in work_items])
    if plan.from_quarantine:
        _mark(run, [(_origin(plan, row) or places[id(row)], profile) for row, profile in work_items])
    return {places[id(row)][0] for row, _ in work_items if row.announced_now}


def _origin(plan: Plan, row: Row) -> Place | None:
    """Return the place in quarantine of a row that was mapped again."""
    origins = plan.listings[row.listing].origins
    return origins[row.row] if origins else None


def _mark(run: Run, replayed: Sequence[tuple[Place, str]]) -> None:
    """Mark rows as replayed after they are registered. If the run dies before, they only look unreplayed."""
    from cropline.intake.quarantine import Mark, mark_replayed

    profiles: dict[Place, set[str]] = {}
    for place, profile in replayed:
        profiles.setdefault(place, set()).add(profile)
    marks: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for (key, row), names in profiles.items():
        marks.setdefault((key, tuple(sorted(names))), []).append(row)
    for (key, which), rows in marks.items():
        mark_replayed(run.spec, key, rows, Mark(run.context.flow_run_id, datetime.now(UTC), which))


def _requeue(run: Run, part: Slice) -> None:
    """Requeue exactly the planned work items that are still in the state in which the plan found them."""
    found: dict[tuple[str, WorkState], list[str]] = {}
    for work in part.work_items:
        if work.action == "requeue" and work.state is not None:
            found.setdefault((work.profile, work.state), []).append(work.image_id)
    source, moves = run.settings.api.source, None
    # Old photos may leave the table again before they are requeued: maintenance runs beside it.
    while found and (moved := run.state.moved_photos(source, part.image_ids)).moves != moves:
        if moves is None or moved.found:
            _bring_back(run, part)
            for (profile, state), images in found.items():
                run.state.requeue(states=[state], sources=[source], profiles=[profile], images=images)
        moves = moved.moves


def _bring_back(run: Run, part: Slice) -> None:
    from cropline.catalogue import Catalogue
    from cropline.pipeline import known_photos

    known_photos.bring_back(run.state, Catalogue(run.spec), run.settings.api.source, part.image_ids)


def _landed(run: Run, plan: Plan, rows: Sequence[Row]) -> dict[int, Place]:
    """Return the place of each row. Rows that are only in local files are landed as one manifest first."""
    places = {id(row): (key, row.row) for row in rows if (key := plan.listings[row.listing].key) is not None}
    local = sorted(
        {id(row): row for row in rows if id(row) not in places}.values(), key=lambda row: (row.listing, row.row)
    )
    if not local:
        return places
    path = run.folder / "slice.parquet"
    manifest.write_rows(_numbered(run, plan, local), path)
    # As in a poll, the manifest's day is that of its newest row.
    newest = max(row.updated_at or row.captured_at or _KEEP_ALL_DIGESTS for row in local)
    key = manifest.land(path, run.settings.api.source, f"{newest:%Y-%m-%d}", run.spec)
    return places | {id(row): (key, position) for position, row in enumerate(local)}


def _numbered(run: Run, plan: Plan, rows: Sequence[Row]) -> Iterable[dict[str, Any]]:
    read: dict[int, pa.Table] = {}
    for position, row in enumerate(rows):
        if row.listing not in read:
            read = {row.listing: plan.listings[row.listing].read(run.spec)}
        yield read[row.listing].slice(row.row, 1).to_pylist()[0] | {"row": position}


def _by_manifest(rows: Sequence[Row], places: dict[int, Place]) -> dict[str, dict[int, list[str]]]:
    found: dict[str, dict[int, list[str]]] = {}
    for row in rows:
        key, position = places[id(row)]
        found.setdefault(key, {})[position] = list(row.broken)
    return {key: dict(sorted(broken.items())) for key, broken in found.items()}


def _candidate(run: Run, row: Row, profile: str, place: Place) -> dict[str, Any]:
    hash_ = run.settings.profiles[profile].hash
    return {
        **{
            name: getattr(row, name)
            for name in ("image_id", "version", "bytes", "captured_at", "updated_at", "store_id", "camera_id", "boxes")
        },
        "source": run.settings.api.source,
        "profile": profile,
        "profile_hash": hash_,
        "fingerprint": fingerprint(row.content_hash, hash_),
        "metadata": row.metadata or None,
        "manifest": place[0],
        "manifest_row": place[1],
        "state": "quarantined" if row.broken else "pending",
        "reason": ",".join(row.broken) or None,
    }


def _write(run: Run, candidates: Sequence[dict[str, Any]]) -> None:
    """Register without moving the cursor. The name is unique: the manifest may have been registered before."""
    import pyarrow as pa

    from cropline.catalogue import Catalogue
    from cropline.core.keys import canonical_json, digest
    from cropline.pipeline import known_photos
    from cropline.state import CANDIDATES, Registration

    told = ("image_id", "profile", "fingerprint", "metadata", "manifest", "manifest_row")
    work_items = digest(canonical_json([[row[name] for name in told] for row in candidates]))

    def registration(moves: int, unknown: Collection[str]) -> Registration:
        return Registration(
            source=source,
            manifest=f"{run.context.flow_name}/{run.context.flow_run_id}/{work_items[:16]}",
            cursor=None,
            rows=pa.Table.from_pylist(list(candidates), schema=CANDIDATES),
            item_digests=[],
            forget_digests_before=_KEEP_ALL_DIGESTS,
            profiles=registered_profiles(run),
            moves=moves,
            unknown=unknown,
        )

    source, image_ids = run.settings.api.source, {row["image_id"] for row in candidates}
    registered = known_photos.register(run.state, Catalogue(run.spec), source, image_ids, registration)
    run.add(
        Funnel(new=registered.new, changed=registered.changed, corrected=registered.corrected, known=registered.known)
    )
