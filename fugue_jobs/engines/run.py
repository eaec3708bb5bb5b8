"""Runs the crop job on the chosen engine: one script, in process or on DuckDB, Spark, Spark Connect, Dask or Ray.

It imports Fugue, DuckDB and Spark only when a call needs them, so that importing this module is cheap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cropline.core.errors import CroplineError, EngineError
from cropline.core.own_columns import OwnColumn, claimed_columns
from cropline.core.scrub import one_line
from cropline.pipeline.funnel import EngineUse
from fugue_jobs.engines.plugins import no_plugins
from fugue_jobs.engines.sessions import stop_engines, with_session

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.settings import EngineSettings
    from fugue_jobs.crop_images import CropJob
    from fugue_jobs.engines.manifests import Images
    from fugue_jobs.engines.plan import Cost
    from fugue_jobs.engines.sessions import Session

    Spans = tuple[tuple[float, float], ...]

__all__ = ["DISTRIBUTED", "run_crop_job", "stop_engines"]

log = logging.getLogger(__name__)

# Kinds whose workers are other processes, perhaps on other machines.
DISTRIBUTED = ("spark", "spark-connect", "emr-serverless", "dask", "ray")


# More stores than this are narrowed to those of the batch, which costs another column of its manifests.
_MOST_STORES = 10_000


def _go_on() -> None:
    """The default check: does nothing."""


def run_crop_job(
    images: Images,
    claimed: pa.Table,
    stores: pa.Table,
    job: CropJob,
    engine: EngineSettings,
    on_image: Callable[[int], None] | None = None,
    *,
    waiting: int = 0,
    on_engine: Callable[[EngineUse], None] | None = None,
    check: Callable[[], None] = _go_on,
    frames: Mapping[str, pa.Table] | None = None,
    known: pa.Schema | None = None,
) -> pa.Table:
    """Crop every box of every claimed image, by every claimed profile.

    images: ManifestRows, which Spark's workers read themselves and which are read here for other engines; or
    loaded rows, manifests.IMAGE_ROWS. Unclaimed rows are ignored.
    claimed: schemas.CLAIM. stores: schemas.STORES, may be empty.
    on_image: called with the number of rows after each image; not on clusters, whose workers are elsewhere.
    waiting: other images that wait; kind=auto and autoscaling use it.
    on_engine: called at the end with the engine of the batch and the reason.
    check: called about once a second in the calling thread; an exception from it ends the job.
    frames: more frames for the script, by name.
    known: the catalogue's columns; a column of a step or a script with another type is refused.

    Return schemas.CROPS, exactly one row per box and profile, ordered by manifest, row, box and profile. The
    columns of steps, and those that a script adds, follow.
    Several threads may call this; on a cluster they share its session.

    Raise EngineError: a claimed image without its manifest row, a repeated store, an engine that cannot
    run, a script that breaks its contract, a claimed box without a row. After any exception, including a signal's, no work of the
    job runs on the cluster, except parts that Dask's workers are running.
    """
    from fugue_jobs.engines import plan
    from fugue_jobs.engines.dry_run import check_returned
    from fugue_jobs.engines.manifests import sizes, stores_of
    from fugue_jobs.engines.script import check_columns
    from fugue_jobs.rows import crops_schema, in_order, typed

    counts = sizes(images)
    _check_keys(counts, claimed, stores)
    if engine.script is None and stores.num_rows > _MOST_STORES:
        stores = stores_of(images, stores)  # a million of them fill a driver's memory
    cost = plan.cost(counts, claimed)
    kind, reason = engine.kind, "set"
    if engine.kind == "auto":
        kind, reason = plan.choose(cost, waiting, engine.auto)  # type: ignore[assignment]
    log.info("%s: %s", kind, reason)
    settings = engine.model_copy(update={"kind": kind})
    columns = _columns(claimed)
    check_columns(crops_schema(columns), columns, known)
    job = replace(job, columns=columns)
    batch = _Batch(images, counts, claimed, stores, job, settings, cost, waiting, check, frames or {}, known)
    started = time.time()
    ran = _run_distributed(batch) if kind in DISTRIBUTED else _run_here(batch, on_image)
    check_columns(ran.crops.schema, columns, known)
    crops = in_order(typed(ran.crops, columns))
    check_returned(crops, counts, claimed, engine.script)
    if on_engine is not None:
        on_engine(EngineUse(kind, reason, ran.partitions, time.time() - started, ran.executors))
    return crops


def _columns(claimed: pa.Table) -> tuple[OwnColumn, ...]:
    try:
        return claimed_columns(claimed)
    except ValueError as error:
        raise EngineError(str(error)) from None


@dataclass(frozen=True)
class _Batch:
    images: Images
    counts: pa.Table
    claimed: pa.Table
    stores: pa.Table
    job: CropJob
    settings: EngineSettings
    cost: Cost
    waiting: int
    check: Callable[[], None]
    frames: Mapping[str, pa.Table]
    known: pa.Schema | None

    @property
    def partitions(self) -> int:
        from fugue_jobs.engines import plan

        if self.settings.kind not in DISTRIBUTED:
            return 0  # one call, parallel by its crop processes
        planned = plan.partitions(self.cost, self.settings.partitions)
        # Parts that run at the same time share the connections to a host, and each needs one.
        return min(planned, self.job.fetch.connections_per_host or planned)

    @property
    def copies_bits(self) -> bool:
        """Whether crops of a claimed recipe are copied out of the photo's bits."""
        import pyarrow.compute as pc

        from fugue_jobs.imaging.encode import copies_bits

        return any(
            map(copies_bits, pc.struct_field(pc.list_flatten(self.claimed["work"]), "recipe").unique().to_pylist())
        )

    @property
    def part_of_job(self) -> CropJob:
        """The job of one part: one slot of the cluster, and its share of the connections."""
        fetch, parts = self.job.fetch, self.partitions
        if fetch.connections_per_host is not None:
            fetch = replace(fetch, connections_per_host=max(1, fetch.connections_per_host // parts))
        return replace(self.job, processes=self.job.processes or 1, fetch=fetch)


@dataclass(frozen=True)
class _EngineResult:
    crops: pa.Table
    partitions: int = 1
    executors: Spans = ()


def _run_here(batch: _Batch, on_image: Callable[[int], None] | None) -> _EngineResult:
    from fugue_jobs.crop_images import crop_images

    if batch.settings.kind == "duckdb":
        import fugue_duckdb  # noqa: F401 - registers the engine
    transformer = crop_images(batch.job, on_image, batch.check)
    # A user's script may name another engine.
    alone = batch.settings.kind == "native" and batch.settings.script is None
    try:
        with no_plugins() if alone else nullcontext():
            return _EngineResult(_run(batch, lambda: batch.settings.kind, transformer, _here))
    except Exception as error:
        if batch.settings.script is None or isinstance(error, CroplineError):
            raise
        told = one_line(f"{type(error).__name__}: {error}")
        raise EngineError(f"the script {batch.settings.script} failed: {told}") from error


def _run_distributed(batch: _Batch) -> _EngineResult:
    import pyarrow as pa

    from fugue_jobs.crop_images import crop_images
    from fugue_jobs.engines import plan

    if batch.settings.kind == "emr-serverless":
        return _run_on_emr(batch)
    most_executors = plan.most_executors(batch.cost, batch.waiting, batch.settings.spark)
    started = time.time()
    spans: dict[Session, Spans] = {}
    crops = []
    pieces = _pieces(batch)
    for piece in pieces:

        def work(session: Session, piece: _Batch = piece) -> pa.Table:
            returned = _run_watched(session, piece, crop_images(piece.part_of_job))
            spans[session] = session.cluster.executors(started)
            return returned

        crops.append(with_session(batch.settings, most_executors, work, batch.check))
    executors = tuple(sorted(span for found in spans.values() for span in found))
    return _EngineResult(pa.concat_tables(crops), sum(piece.partitions for piece in pieces), executors)


def _pieces(batch: _Batch) -> list[_Batch]:
    """Divide a large batch: a cluster's driver holds what one script returns."""
    from fugue_jobs.engines import plan
    from fugue_jobs.engines.manifests import narrowed, rows_of

    claims = plan.pieces(batch.counts, batch.claimed)
    if len(claims) == 1:
        return [batch]
    counts = [rows_of(batch.counts, claimed) for claimed in claims]
    return [
        replace(
            batch, images=narrowed(batch.images, claimed), counts=count, claimed=claimed, cost=plan.cost(count, claimed)
        )
        for claimed, count in zip(claims, counts, strict=True)
    ]


def _run_watched(session: Session, batch: _Batch, transformer: Any) -> pa.Table:
    from fugue_jobs.engines.clusters import in_own_thread

    def check() -> None:
        batch.check()
        session.cluster.check()

    return in_own_thread(lambda: _run_on(session, batch, transformer), check)


def _run_on_emr(batch: _Batch) -> _EngineResult:
    from fugue_jobs.engines.emr import dispatch

    done = dispatch(
        batch.images,
        batch.claimed,
        batch.stores,
        batch.job,
        batch.settings,
        batch.cost,
        batch.waiting,
        batch.check,
        batch.frames,
    )
    return _EngineResult(done.crops, done.partitions, done.executors)


def _here(table: Images) -> pa.Table:
    from fugue_jobs.engines.manifests import load_rows

    return load_rows(table)


def _run_on(session: Session, batch: _Batch, transformer: Any) -> pa.Table:
    session.begin(copies_bits=batch.copies_bits)
    return _run(batch, lambda: session.cluster.engine, transformer, session.cluster.frame)


def _run(batch: _Batch, engine: Callable[[], Any], transformer: Any, as_frame: Callable[[Images], Any]) -> pa.Table:
    from fugue_jobs.engines.dry_run import dry_run
    from fugue_jobs.engines.script import read_script

    script = read_script(batch.settings.script)
    inputs = {"images": batch.images, "claimed": batch.claimed, "stores": batch.stores}
    frames = {name: as_frame(frame) for name, frame in (*inputs.items(), *batch.frames.items())}
    if batch.settings.script is not None:
        dry_run(
            lambda stub: _run_script(script, batch, engine(), frames, stub),
            batch.counts,
            batch.claimed,
            batch.job.columns,
            batch.known,
        )
    return _run_script(script, batch, engine(), frames, transformer)


def _run_script(script: str, batch: _Batch, engine: Any, frames: dict[str, Any], transformer: Any) -> pa.Table:
    from fugue.dataframe.api import as_arrow
    from fugue.sql.api import fugue_sql_flow

    from cropline.core.schemas import fugue_expression
    from fugue_jobs.rows import crops_schema

    schema = fugue_expression(crops_schema(batch.job.columns))
    values = {"partitions": batch.partitions, "crops_schema": schema, "crop_images": transformer}
    found = fugue_sql_flow(script, **frames, **values).run(engine)
    if "crops" not in found:
        raise EngineError("the script yields no frame crops: it needs crops = ... YIELD DATAFRAME")
    crops = found["crops"]
    native: Any = getattr(crops, "native", None)
    # Spark's own method keeps Arrow batches. On Connect, Fugue's converts them to rows of Python objects.
    return native.toArrow() if hasattr(native, "toArrow") else as_arrow(crops)


def _check_keys(counts: pa.Table, claimed: pa.Table, stores: pa.Table) -> None:
    known = list(zip(counts["manifest"].to_pylist(), counts["manifest_row"].to_pylist(), strict=True))
    wanted = list(zip(claimed["manifest"].to_pylist(), claimed["manifest_row"].to_pylist(), strict=True))
    missing = set(wanted) - set(known)
    if missing:
        raise EngineError(f"{len(missing)} claimed images have no manifest row, for example {min(missing)}")
    if len(set(known)) < len(known) or len(set(wanted)) < len(wanted):
        raise EngineError("an image is listed twice: the job would cut it twice")
    ids = stores["store_id"].to_pylist()
    if len(set(ids)) < len(ids):
        raise EngineError("the stores table has a store_id twice: the join would double its images")
