"""Dask: cuts a Dask DataFrame in place, and rows of this process on a Dask cluster."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.core.errors import EngineError, OptionError
from fugue_jobs.engines.clusters import cause
from fugue_jobs.engines.shipping import zips
from fugue_jobs.frame.local import PandasSource, crop_pandas, take
from fugue_jobs.frame.options import check_clash, find_columns
from fugue_jobs.frame.results import Results, result_schema
from fugue_jobs.frame.tables import CropLoose, cut_part, loose

if TYPE_CHECKING:
    import pandas as pd

    from fugue_jobs.frame.options import Options
    from fugue_jobs.frame.rows import Rows

_LOOKED_AT = 200


def crop_dask(frame: Any, options: Options) -> Any:
    """Return the frame with its result columns. Lazy: each computation crops again, unless persisted.

    The order of rows changes, because rows of one image are brought together. They keep their index.
    """
    names = list(frame.columns)
    columns = find_columns(names, options)
    check_clash(names, result_schema(options).names)
    _check_boxes(frame, options)
    empty = frame._meta
    if not _holds_bytes(frame, columns.image):
        parts = {"npartitions": options.partitions} if options.partitions else {}
        frame = frame.shuffle(on=columns.image, **parts)
    meta = crop_pandas(empty, options, _cut_nothing, whole=False)
    return frame.map_partitions(_crop_part, options, meta=meta)


def _crop_part(part: pd.DataFrame, options: Options) -> pd.DataFrame:
    """Crop one partition. A Dask thread or process runs it on one core."""
    return crop_pandas(part, options, cut_part, whole=False)


def _cut_nothing(rows: Rows, options: Options) -> Results:
    return Results(len(rows), options)


def _check_boxes(frame: Any, options: Options) -> None:
    try:
        take(PandasSource(_first(frame)), options)
    except OptionError as error:
        if not str(error).startswith(("units:", "boxes:")):
            raise
        columns = find_columns(list(frame.columns), options)
        take(PandasSource(frame[list(dict.fromkeys((columns.image, *columns.of_boxes)))].compute()), options)


def _first(frame: Any, rows: int = _LOOKED_AT) -> pd.DataFrame:
    with warnings.catch_warnings():
        # Ignore Dask's warning that there are fewer partitions than requested.
        warnings.simplefilter("ignore", UserWarning)
        found: pd.DataFrame = frame.head(rows, npartitions=1)
    return found


def _holds_bytes(frame: Any, image: Any) -> bool:
    known = _first(frame[[image]])[image].dropna()
    return len(known) > 0 and isinstance(known.iloc[0], bytes)


def crop_rows(client: Any, rows: Rows, options: Options) -> Results:
    """Cut rows of this process on the client's cluster. Raise EngineError when the job fails there."""
    from fugue_jobs.engines.task_engine import partition_rows

    results = Results(len(rows), options)
    if not len(rows):
        return results
    cores = sum(client.nthreads().values())
    if getattr(client, "cluster", None) is None:
        for path in zips(options.ship):
            client.upload_file(str(path))
    parts = partition_rows(loose(rows, options), ["code"], options.partitions or max(1, cores) * 4)
    try:
        tables = client.gather(client.map(CropLoose(options).whole, parts, pure=False))
    except Exception as error:  # workers raise anything
        raise EngineError(f"the job failed on Dask: {cause(error)}") from error
    results.fill(pa.concat_tables(tables))
    return results
