"""cropline.crop: which frame it is, who cuts it, and how that is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cropline.core.errors import OptionError
from fugue_jobs.frame.options import Options, check_store, read_options

if TYPE_CHECKING:
    from cropline.config.profile import Profile
    from fugue_jobs.frame.cutting import Emit
    from fugue_jobs.frame.function import Extras, Function
    from fugue_jobs.frame.local import Cutter
    from fugue_jobs.frame.results import Results
    from fugue_jobs.frame.rows import Rows

Frame = TypeVar("Frame")

_TAKEN = "pandas, Arrow, a DuckDB relation, Spark, Dask, or a path to Parquet or CSV"


def crop(
    df: Frame,
    *,
    store: str | Path | None = None,
    profile: Profile | Mapping[str, Any] | str | None = None,
    engine: object = None,
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
) -> Frame:
    """Crop every box of a frame: the same kind of frame comes back, every column as it was, with result columns beside them.

    df: a pandas DataFrame, an Arrow table, a DuckDB relation, a Spark (or Spark Connect) or Dask DataFrame, or the path of a
    Parquet or CSV file, which comes back as a pandas DataFrame. One row a box, or all boxes of an image in one column of
    lists; then each result column holds a list, too.

    store: where crops are stored (a folder, file:///, s3://...), under the keys of column ``crop_key``. Without it their bytes
    are in column ``crop_data``.
    profile: the crop recipe, a cropline.Profile, its fields, or the name of one in CROPLINE_PROFILES.
    engine: where a frame of this process is cut: here (None, "native", "duckdb"), on Spark (a session, or "spark"), on Dask (a
    client, or "dask"), or on any other engine of Fugue's. Spark and Dask frames are cut where they are.
    boxes: "xyxy", "xywh" or "cxcywh" (from the centre). units: "normalised" (0..1 of the upright image), "pixels", "percent".
    columns: which columns of the frame are meant: {"image": "ImgUrl", "box": ["x", "y", "w", "h"], "label": "sku"}; "box" may
    name one column of whole boxes, "boxes" one with all boxes of an image. An image is an http(s) URL, an object's address, bytes, or a
    path below ``files``.
    function: of your own, run on every crop in the crop processes: ``f(image, row)`` gives an image, a dict of the columns that ``extras``
    declares ("mean:double, embedding:list<float>"), or both; or "module:name", or a class whose calls get batches. One that
    raises, hangs or dies fails its crop. version: of the function; without it a hash of its source. docs/front-door.md says more.
    prefix: of the result columns. files: the folder below which paths in the frame may lie; without it none is read.
    partitions: parts of the work on a cluster; 0 chooses. processes: crop processes here, or of a part on a cluster; 0 is one a
    core here and one there.

    What is not given comes from CROPLINE_FETCH__... and CROPLINE_PICTURES__....
    Result columns: crop_status ("written", "failed" or "skipped"), crop_reason (a code of docs/failures.md), crop_detail,
    crop_key or crop_data, crop_sha256, crop_bytes, crop_width, crop_height, crop_format, and crop_left, _top, _right, _bottom in
    pixels of the upright image. A row that cannot be cut has its reason; nothing is raised for it.
    Spark and Dask are lazy: each action crops again, unless the frame is stored or persisted.

    Raises OptionError (a ValueError) before anything is fetched: a missing column, a result column that the frame has already, a
    wrong option, a box format that no box fits, a store that cannot be written. Raises EngineError when an engine cannot run.
    """
    options = read_options(
        store=store,
        profile=profile,
        boxes=boxes,
        units=units,
        columns=columns,
        function=function,
        extras=extras,
        version=version,
        prefix=prefix,
        files=files,
        partitions=partitions,
        processes=processes,
    )
    out: Frame = crop_frame(df, options, engine)
    return out


def crop_frame(df: Any, options: Options, engine: object = None) -> Any:
    """The frame with its result columns, by options that were read."""
    if isinstance(df, str | Path):
        return _crop_file(Path(df), options, engine)
    module = type(df).__module__.partition(".")[0]
    if module == "pyspark":
        from fugue_jobs.frame.spark import crop_spark

        _refuse_engine(engine, "Spark")
        check_store(options)
        return crop_spark(df, options)
    if module in ("dask", "dask_expr"):
        from fugue_jobs.frame.dask import crop_dask

        _refuse_engine(engine, "Dask")
        check_store(options)
        return crop_dask(df, options)
    return _crop_local(df, options, engine)


def _crop_local(df: Any, options: Options, engine: object) -> Any:
    import pandas as pd
    import pyarrow as pa

    from fugue_jobs.frame.local import crop_arrow, crop_duckdb, crop_pandas

    cut = _checked(_cutter(engine))
    if isinstance(df, pd.DataFrame):
        return crop_pandas(df, options, cut)
    if isinstance(df, pa.Table):
        return crop_arrow(df, options, cut)
    if isinstance(df, pa.RecordBatch):
        out = crop_arrow(pa.Table.from_batches([df]), options, cut).combine_chunks()
        # An empty table has no batch.
        return next(iter(out.to_batches()), pa.RecordBatch.from_pylist([], schema=out.schema))
    if type(df).__name__ == "DuckDBPyRelation":
        return crop_duckdb(df, options, cut)
    raise OptionError(f"df: a {type(df).__module__}.{type(df).__name__} is not taken; give {_TAKEN}")


def _crop_file(path: Path, options: Options, engine: object) -> Any:
    import pandas as pd

    from fugue_jobs.frame.files import read_file

    table = read_file(path)
    # Arrow's types in pandas: whole numbers with gaps, lists and zoned times stay what they are in the file.
    return _crop_local(table.to_pandas(types_mapper=pd.ArrowDtype), options, engine)


def _checked(cut: Cutter) -> Cutter:
    """The store is tried after the columns are known to be right, and before anything is fetched."""

    def checked(rows: Rows, options: Options) -> Results:
        check_store(options)
        return cut(rows, options)

    return checked


def _cutter(engine: object) -> Cutter:
    from fugue_jobs.frame.engines import on_engine

    if engine is None or (isinstance(engine, str) and engine in ("native", "pandas", "duckdb", "duck")):
        return _cut_here
    return partial(on_engine, engine)


def _cut_here(rows: Rows, options: Options) -> Results:
    from fugue_jobs.frame.cutting import cut_rows

    with _progress(len(rows)) as tell:
        return cut_rows(rows, options, options.processes, tell)


@contextmanager
def _progress(total: int) -> Iterator[Emit | None]:
    """A bar where a person watches: a terminal or a notebook."""
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cropline.core.screen import Screen

    shown = (TextColumn("cropping"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shown, console=Screen(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda ended: bar.update(task, completed=ended)


def _refuse_engine(engine: object, kind: str) -> None:
    if engine is not None and not _is_same(engine, kind):
        raise OptionError(f"engine: a {kind} frame is cut by its own engine; leave engine out")


def _is_same(engine: object, kind: str) -> bool:
    name = engine if isinstance(engine, str) else f"{type(engine).__module__} {type(engine).__name__}"
    return kind.lower() in name.lower() or (kind == "Dask" and name.startswith("distributed"))
