"""The front door in FugueSQL: ``TRANSFORM df USING cropline_crop(store='...', profile={max_side: 256})``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fugue.collections.partition import PartitionSpec
from fugue.dataframe.arrow_dataframe import ArrowDataFrame
from fugue.dataframe.dataframe import DataFrame, LocalDataFrame
from fugue.dataframe.dataframe_iterable_dataframe import IterableArrowDataFrame, LocalDataFrameIterableDataFrame
from fugue.extensions.transformer.transformer import Transformer
from triad.collections.schema import Schema
from triad.utils.hash import to_uuid

from fugue_jobs.frame.cutting import cut_rows
from fugue_jobs.frame.local import crop_arrow
from fugue_jobs.frame.options import Options, check_clash, check_store, find_columns, read_options
from fugue_jobs.frame.results import result_schema
from fugue_jobs.frame.spark import check_boxes, nests, ship
from fugue_jobs.frame.tables import CropTables, cut_part

if TYPE_CHECKING:
    from cropline.config.profile import Profile
    from fugue_jobs.frame.function import Extras, Function
    from fugue_jobs.frame.results import Results
    from fugue_jobs.frame.rows import Rows

# As many parts per core as spark.py makes, in Fugue's notation.
_PARTS = "CONCURRENCY*4"


class CropTransformer(Transformer):
    """Crops the boxes of a frame in Fugue. ``bound``: options that were set before the statement."""

    def __init__(self, bound: Mapping[str, Any] | None = None) -> None:
        self._bound = dict(bound or {})
        self._options: Options | None = None
        self._whole = True

    def __uuid__(self) -> str:
        """Return an id that is equal for equal options, so that Fugue recognises equal tasks."""
        return str(to_uuid("cropline_crop", sorted((name, str(value)) for name, value in self._bound.items())))

    def __call__(self, df: Any, engine: object = None) -> Any:
        """Call cropline.crop with these options. Fugue accepts only callables after USING."""
        from fugue_jobs.frame.crop import crop_frame

        return crop_frame(df, read_options(**self._bound), engine)

    def get_format_hint(self) -> str:
        return "pyarrow"

    def get_output_schema(self, df: DataFrame) -> Schema:
        """Return the result's schema. It runs on the driver and checks all options before anything is fetched."""
        options = read_options(**self._bound | dict(self.params))
        names = list(df.schema.names)
        columns = find_columns(names, options)
        kinds = df.schema.pa_schema
        results = result_schema(options, nested=nests(columns, options, kinds))
        check_clash(names, results.names)
        check_store(options)
        native: Any = getattr(df, "native", None)
        if type(native).__module__.startswith("pyspark."):
            check_boxes(native, options)
            ship(native.sparkSession, options.ship)
        self._options, self._whole = options, df.is_local
        image = str(columns.image)
        self._work = CropTables(options, image, (*names, *results.names))
        own = self.partition_spec
        if not df.is_local and not own.partition_by and not pa.types.is_binary(kinds.field(image).type):
            # Otherwise several parts would fetch the same image. Fugue has no public way to set this.
            parts = options.partitions or own.num_partitions
            spec = {"algo": "coarse", "by": [image], "num": _PARTS if parts in (0, "0") else parts}
            self._partition_spec = PartitionSpec(spec)
        return df.schema + Schema(results)

    def transform(self, df: LocalDataFrame) -> LocalDataFrame:
        """Crop one part, on a worker or here."""
        return IterableArrowDataFrame(map(ArrowDataFrame, self._cut(df)), self.output_schema)

    def _cut(self, df: LocalDataFrame) -> Iterator[pa.Table]:
        assert self._options is not None
        # In this process rows are in no order: take all rows of the part, ordered by image.
        if isinstance(df, LocalDataFrameIterableDataFrame):
            tables = [part.as_arrow() for part in df.native]
            if tables:
                yield from self._work([pa.concat_tables(tables).sort_by(self._work.image)])
        elif self._whole:
            yield crop_arrow(df.as_arrow(), self._options, _cut_here)
        else:
            yield crop_arrow(df.as_arrow(), self._options, cut_part, whole=False)


def _cut_here(rows: Rows, options: Options) -> Results:
    return cut_rows(rows, options, options.processes)


def crops(
    *,
    store: str | Path | None = None,
    profile: Profile | Mapping[str, Any] | str | None = None,
    boxes: str = "xyxy",
    units: str = "normalised",
    columns: Mapping[str, Any] | None = None,
    function: Function | None = None,
    extras: Extras | None = None,
    version: str | None = None,
    prefix: str = "crop_",
    files: str | Path | None = None,
    partitions: int = 0,
    processes: int = 0,
) -> CropTransformer:
    """Return a transformer with these options of cropline.crop, for FugueSQL: ``TRANSFORM df USING mine``.

    Raise OptionError for a wrong option.
    """
    bound = {
        "store": store,
        "profile": profile,
        "boxes": boxes,
        "units": units,
        "columns": columns,
        "function": function,
        "extras": extras,
        "version": version,
        "prefix": prefix,
        "files": files,
        "partitions": partitions,
        "processes": processes,
    }
    read_options(**bound)  # type: ignore[arg-type]
    return CropTransformer(bound)
