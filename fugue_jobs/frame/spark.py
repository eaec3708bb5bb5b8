"""Spark and Spark Connect: a frame cut where it lies, and rows of this process cut there."""

from __future__ import annotations

import os
import sys
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.core.errors import EngineError, OptionError
from fugue_jobs.engines.clusters import cause
from fugue_jobs.engines.shipping import zipped_packages
from fugue_jobs.frame.local import ArrowSource, take
from fugue_jobs.frame.options import check_clash, find_columns
from fugue_jobs.frame.results import Results, result_schema
from fugue_jobs.frame.rows import is_nested
from fugue_jobs.frame.tables import CropLoose, CropTables, loose

if TYPE_CHECKING:
    from fugue_jobs.frame.options import Columns, Options
    from fugue_jobs.frame.rows import Rows

# Parts for each core that the session has: a slow image holds up few others.
_PARTS_A_CORE = 4
# Where a session does not say how many cores it has.
_PARTS = 32
# Rows that are looked at to see whether boxes are what the options say.
_LOOKED_AT = 200


def crop_spark(frame: Any, options: Options) -> Any:
    """The frame with its result columns. Lazy: nothing is fetched before an action, and each action crops again.

    Rows come in another order: those of one image are brought together. Images in a column of bytes stay where they are.
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
    ship(frame.sparkSession)
    work = CropTables(options, str(columns.image), (*names, *results.names))
    schema = StructType([*frame.schema.fields, *from_arrow_schema(results).fields])
    if not pa.types.is_binary(kinds.field(str(columns.image)).type):
        image = _quoted(columns.image)
        frame = frame.repartition(options.partitions or _parts(frame.sparkSession), image).sortWithinPartitions(image)
    elif options.partitions:
        frame = frame.repartition(options.partitions)
    return frame.mapInArrow(work.batches, schema)


def nests(columns: Columns, options: Options, kinds: pa.Schema) -> bool:
    """Whether a frame whose columns have these types has the boxes of a whole image in one column."""
    return columns.edges is None and ("boxes" in options.columns or is_nested(kinds.field(str(columns.box)).type))


def check_boxes(frame: Any, options: Options) -> None:
    """As for any frame, by some of its rows first: that they are all wrong is seen in few, that one is right in all."""
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
    """Rows of this process, cut on the session's cluster. Raises EngineError when the job fails there."""
    from pyspark.sql.pandas.types import from_arrow_schema

    from fugue_jobs.engines.spark import as_spark_frame

    results = Results(len(rows), options)
    if not len(rows):
        return results
    ship(session)
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


_shipped: weakref.WeakSet[Any] = weakref.WeakSet()


def ship(session: Any) -> None:
    """Our own packages to the session's workers, once: they may have only the third-party wheels."""
    if session in _shipped:
        return
    context = getattr(session, "_sc", None)
    if context is None:
        session.addArtifacts(str(zipped_packages()), pyfile=True)
    elif not context.master.startswith("local"):
        context.addPyFile(str(zipped_packages()))
    elif "PYSPARK_PYTHON" not in os.environ and not context.getConf().get("spark.pyspark.python"):
        # Else its workers would run whatever "python3" is there, and this is the machine that has cropline.
        context.pythonExec = sys.executable
    _shipped.add(session)


def _quoted(name: object) -> str:
    return "`" + str(name).replace("`", "``") + "`"
