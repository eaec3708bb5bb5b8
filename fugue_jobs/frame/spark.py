"""Spark and Spark Connect: cuts Spark frames in place, and rows of this process on Spark."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.core.errors import EngineError, OptionError
from fugue_jobs.engines.clusters import cause
from fugue_jobs.engines.shipping import zips
from fugue_jobs.frame.local import ArrowSource, take
from fugue_jobs.frame.options import check_clash, find_columns
from fugue_jobs.frame.results import Results, result_schema
from fugue_jobs.frame.rows import is_nested
from fugue_jobs.frame.tables import CropLoose, CropTables, loose

if TYPE_CHECKING:
    from fugue_jobs.frame.options import Columns, Options
    from fugue_jobs.frame.rows import Rows

# Parts per core of the session, so that a slow image delays few others.
_PARTS_A_CORE = 4
# The number of parts when the session does not report its cores.
_PARTS = 32
# Rows that are sampled to check the format of boxes.
_LOOKED_AT = 200


def crop_spark(frame: Any, options: Options) -> Any:
    """Return the frame with its result columns. Lazy: each action fetches and crops again.

    The order of rows changes, because rows of one image are brought together. Frames with a column of
    image bytes are not shuffled.
    """
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
    from pyspark.sql.types import StructType

    names = list(frame.columns)
    columns = find_columns(names, options)
    kinds = to_arrow_schema(frame.select(*(_quoted(name) for name in (columns.image, *columns.of_boxes))).schema)
    nested = nests(columns, options, kinds)
    results = result_schema(options, nested=nested)
    check_clash(names, results.names)
    check_boxes(frame, options)
    ship(frame.sparkSession, options.ship)
    work = CropTables(options, str(columns.image), (*names, *results.names))
    schema = StructType([*frame.schema.fields, *from_arrow_schema(results).fields])
    if not pa.types.is_binary(kinds.field(str(columns.image)).type):
        image = _quoted(columns.image)
        frame = frame.repartition(options.partitions or _parts(frame.sparkSession), image).sortWithinPartitions(image)
    elif options.partitions:
        frame = frame.repartition(options.partitions)
    return frame.mapInArrow(work.batches, schema)


def nests(columns: Columns, options: Options, kinds: pa.Schema) -> bool:
    """Return whether one column of a frame with these types has all boxes of an image."""
    return columns.edges is None and ("boxes" in options.columns or is_nested(kinds.field(str(columns.box)).type))


def check_boxes(frame: Any, options: Options) -> None:
    """Check the box format. A sample is read first; all rows are read only when no box of the sample fits."""
    columns = find_columns(list(frame.columns), options)
    boxes = frame.select(*(_quoted(name) for name in dict.fromkeys(columns.of_boxes)))
    try:
        _look_at(boxes.limit(_LOOKED_AT).toArrow(), columns, options)
    except OptionError as error:
        if not str(error).startswith(("units:", "boxes:")):
            raise
        _look_at(boxes.toArrow(), columns, options)


def _look_at(boxes: pa.Table, columns: Columns, options: Options) -> None:
    if columns.image not in boxes.column_names:
        boxes = boxes.append_column(str(columns.image), pa.nulls(len(boxes), pa.string()))
    take(ArrowSource(boxes), replace(options, columns={**options.columns, "image": columns.image, "label": None}))


def crop_rows(session: Any, rows: Rows, options: Options) -> Results:
    """Cut rows of this process on the session's cluster. Raise EngineError when the job fails there."""
    from pyspark.sql.pandas.types import from_arrow_schema

    from fugue_jobs.engines.spark import as_spark_frame

    results = Results(len(rows), options)
    if not len(rows):
        return results
    ship(session, options.ship)
    work = CropLoose(options)
    frame = as_spark_frame(session, loose(rows, options))
    parts = min(options.partitions or _parts(session), len(rows))
    frame = frame.repartition(parts, "code").sortWithinPartitions("code", "row")
    try:
        found = frame.mapInArrow(work.batches, from_arrow_schema(work.schema)).toArrow()
    except Exception as error:  # py4j, gRPC and PySpark share no base
        raise EngineError(f"the job failed on Spark: {cause(error)}") from error
    results.fill(found)
    return results


def _parts(session: Any) -> int:
    context = getattr(session, "_sc", None)
    return _PARTS if context is None else int(max(1, context.defaultParallelism) * _PARTS_A_CORE)


_shipped: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()


def ship(session: Any, modules: Sequence[str] = ()) -> None:
    """Send our packages and the user's modules to the session's workers, once: they may have only third-party wheels."""
    sent = _shipped.setdefault(session, set())
    new = [str(path) for path in zips(modules) if str(path) not in sent]
    if not new:
        return
    context = getattr(session, "_sc", None)
    if context is None:
        session.addArtifacts(*new, pyfile=True)
    elif not context.master.startswith("local"):
        for path in new:
            context.addPyFile(path)
    elif "PYSPARK_PYTHON" not in os.environ and not context.getConf().get("spark.pyspark.python"):
        # Without it, workers run any "python3" on their path. This is the interpreter that has cropline.
        context.pythonExec = sys.executable
    sent.update(new)


def _quoted(name: object) -> str:
    return "`" + str(name).replace("`", "``") + "`"
