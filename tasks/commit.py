"""commit: adds a batch's crops to the catalogue, then to the state table, each once.

The catalogue comes first and is the truth: when it holds the batch already, the state is derived from it. Both refuse a
stale attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import task

from cropline.core.errors import CatalogueError
from cropline.pipeline import outcomes
from cropline.pipeline.run import Run
from tasks.options import STEP
from tasks.unknown_commits import emit_unknown_commits, memory, works_of

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import Batch, Counts, Event


def committed_crops(run: Run, batch: Batch) -> pa.Table | None:
    """Return the catalogue's rows of a batch that was taken over, or None when it must be cropped.

    After this call the earlier attempt cannot append the batch any more.
    """
    from cropline.catalogue import Catalogue

    catalogue = Catalogue(run.spec)
    return catalogue.batch_rows(batch.batch_id) if catalogue.fence(batch.batch_id, batch.attempt) else None


@dataclass(frozen=True)
class CommittedBatch:
    """The result of a commit. ``crops``: the rows of the batch in the catalogue."""

    crops: pa.Table
    counts: Counts
    catalogue_version: int


def commit(run: Run, batch: Batch, crops: pa.Table, started_at: datetime, engine: str | None) -> CommittedBatch:
    """Append to the catalogue, then mark images and batch and write the outbox in one SQL transaction.

    A good row stays when its box could not be cut again; it then holds the reason.
    ``started_at``, ``engine``: start and engine of this attempt, for lineage.
    Raise StaleLease when another attempt has the batch. Then nothing of this attempt is committed.
    """
    from cropline.catalogue import Catalogue

    run.state.renew(batch)
    catalogue, known = Catalogue(run.spec), memory(run)
    appended = catalogue.append(
        crops,
        batch_id=batch.batch_id,
        attempt=batch.attempt,
        flow_run=run.context.flow_run_id,
        committed_at=datetime.now(UTC),
        superseding=batch.superseding,
        works=works_of(batch),
        committed_in=batch.committed_in,
        memory=known,
    )
    if appended.unknown_batches:
        emit_unknown_commits(run, known)
    held = appended.rows if appended.appended else catalogue.batch_rows(batch.batch_id)
    if held is None:
        raise CatalogueError(
            f"the catalogue's log has a commit of batch {batch.batch_id}, but the table has no rows of it"
        )
    became = outcomes.became(held)
    counted = outcomes.counts(batch, became)
    run.state.commit(
        batch,
        outcomes.outcomes(batch, became),
        counts=counted,
        catalogue_version=appended.version,
        events=[
            *run.events(_cropped(run, batch, counted, became, appended.version, started_at, engine)),
            *_own_events(run, batch, held, counted, appended.version),
        ],
        unknown_batches=appended.unknown_batches,
    )
    return CommittedBatch(held, counted, appended.version)


commit_task = task(name="commit", task_run_name="commit batch {batch.batch_id}", **STEP)(commit)


def _own_events(run: Run, batch: Batch, rows: pa.Table, counted: Counts, version: int) -> list[Event]:
    """Return cropline's own event of the batch, when the settings have a receiver."""
    from cropline.catalogue import Catalogue
    from cropline.core.keys import canonical_json
    from cropline.lineage.own_events import batch_committed
    from cropline.state import Event

    if not run.settings.events.wanted:
        return []
    counts = {name: getattr(counted, name) for name in ("images", "boxes", "written", "failed", "skipped")}
    event = batch_committed(
        batch.source, batch.batch_id, rows, counts, Catalogue(run.spec).uri, version, datetime.now(UTC)
    )
    return [Event(event["id"], canonical_json(event))]


def _cropped(
    run: Run,
    batch: Batch,
    counted: Counts,
    crops: pa.Table,
    version: int,
    started_at: datetime,
    engine: str | None,
) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    return run.event_builder.cropped(
        datetime.now(UTC),
        started_at=started_at,
        batch_id=batch.batch_id,
        attempt=batch.attempt,
        images=counted.images,
        boxes=counted.boxes,
        written=counted.written,
        failed=counted.failed,
        skipped=counted.skipped,
        catalogue_version=version,
        crop_bytes=pc.sum(crops["bytes"]).as_py(),
        superseded=len(batch.superseding),
        engine=engine,
    )
