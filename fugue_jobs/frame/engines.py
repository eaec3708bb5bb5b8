"""Runs rows of this process on the requested engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cropline.core.errors import OptionError

if TYPE_CHECKING:
    from fugue_jobs.frame.options import Options
    from fugue_jobs.frame.results import Results
    from fugue_jobs.frame.rows import Rows


def on_engine(engine: object, rows: Rows, options: Options) -> Results:
    """Cut the rows on an engine: a Spark session, a Dask client, any Fugue engine, or the name of one.

    Raise OptionError for anything else.
    """
    if engine == "spark":
        from pyspark.sql import SparkSession

        engine = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    if engine == "dask":
        engine = _dask_client()
    if engine == "ray":
        from fugue_jobs.frame.ray import crop_rows as on_ray

        return on_ray(rows, options)
    module = type(engine).__module__
    if module.startswith("pyspark.") and type(engine).__name__ == "SparkSession":
        from fugue_jobs.frame.spark import crop_rows as on_spark

        return on_spark(engine, rows, options)
    if module.startswith("distributed."):
        from fugue_jobs.frame.dask import crop_rows as on_dask

        return on_dask(engine, rows, options)
    return _on_fugue(engine, rows, options)


def _dask_client() -> Any:
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        raise OptionError('engine: "dask" needs a client; create one with dask.distributed.Client(...)') from None


def _on_fugue(engine: Any, rows: Rows, options: Options) -> Results:
    from fugue.execution.factory import make_execution_engine

    try:
        made = make_execution_engine(engine)
    except Exception as error:  # noqa: BLE001 - Fugue's factories raise anything
        raise OptionError(f"engine: Fugue does not know {engine!r} ({type(error).__name__})") from None
    session = getattr(made, "spark_session", None)
    if session is not None:
        return on_engine(session, rows, options)
    return _transformed(made, rows, options)


def _transformed(engine: Any, rows: Rows, options: Options) -> Results:
    from fugue.workflow.api import transform
    from triad.collections.schema import Schema

    from fugue_jobs.frame.cutting import cut_rows
    from fugue_jobs.frame.results import Results
    from fugue_jobs.frame.tables import CropLoose, loose

    if not engine.is_distributed or not len(rows):
        return cut_rows(rows, options, options.processes)
    work = CropLoose(options)
    spec = {"by": ["code"], "presort": "row", "algo": "coarse", "num": options.partitions}
    found = transform(
        loose(rows, options), work.parts, schema=Schema(work.schema), partition=spec, engine=engine, as_fugue=True
    )
    results = Results(len(rows), options)
    results.fill(found.as_arrow())
    return results
