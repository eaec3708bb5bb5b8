"""cropline.crop: finds the kind of frame, runs the matching implementation, and shows progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from cropline.core.errors import EngineError, OptionError
from fugue_jobs.frame.options import Options, check_store, read_options

if TYPE_CHECKING:
    from cropline.config.profile import Profile
    from fugue_jobs.frame.cutting import Emit
    from fugue_jobs.frame.function import Extras, Function
    from fugue_jobs.frame.local import Cutter
    from fugue_jobs.frame.results import Results
    from fugue_jobs.frame.rows import Rows

Frame = TypeVar("Frame")

_REDRAWN_S = 0.25
_TAKEN = "pandas, Arrow, a DuckDB relation, Spark, Dask, Ray, or a path to Parquet or CSV"


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
    """Crop every box of a frame. Return the same kind of frame: its own columns, then result columns.

    df: a pandas DataFrame, an Arrow table, a DuckDB relation, a Spark (or Spark Connect) or Dask
    DataFrame, a Ray Dataset, or the path of Parquet or CSV files (one, a folder, a glob, or such an
    address in a bucket), for which a pandas DataFrame is returned. A row holds one box, or all boxes of
    an image in one column of lists; then result columns hold lists too.

    store: where crops are stored (a folder, file:///, s3://...); column ``crop_key`` has their keys.
    Without a store, column ``crop_data`` has their bytes.
    profile: the crop recipe: a cropline.Profile, its fields, or the name of one in CROPLINE_PROFILES.
    engine: where a frame of this process is cut: here (None, "native", "duckdb"), on Spark (a session,
    or "spark"), on Dask (a client, or "dask"), on Ray ("ray"), or on any other Fugue engine. Spark, Dask
    and Ray frames are always cut on their own engine.
    boxes: "xyxy", "xywh" or "cxcywh" (from the centre).
    units: "normalised" (0..1 of the upright image), "pixels" or "percent".
    columns: maps roles to columns: {"image": "ImgUrl", "box": ["x", "y", "w", "h"], "label": "sku"}.
    "box" may name one column of whole boxes; "boxes" names a column with all boxes of an image. An image
    is an http(s) URL, the address of an object, bytes, or a path below ``files``.
    function: your function, called on every crop in the crop processes: ``f(image, row)`` returns an
    image, a dict of the columns that ``extras`` declares ("mean:double, embedding:list<float>"), or both.
    It may be "module:name", or a class whose calls get batches. A call that raises, hangs or ends its
    process fails its crop. docs/front-door.md has the details.
    version: the function's version; by default a hash of its source.
    prefix: the prefix of result columns.
    files: the folder below which paths in the frame must be; without it no file is read.
    partitions: the number of parts on a cluster; 0 chooses.
    processes: crop processes here, or per part on a cluster; 0 is one per core here and one there.

    Other options come from CROPLINE_FETCH__... and CROPLINE_PICTURES__....
    Result columns: crop_status ("written", "failed" or "skipped"), crop_reason (a code of
    docs/failures.md), crop_detail, crop_key or crop_data, crop_sha256, crop_bytes, crop_width,
    crop_height, crop_format, and crop_left, _top, _right, _bottom in pixels of the upright image. A row
    that cannot be cut gets a reason; it raises no exception.
    Spark, Dask and Ray are lazy: each action crops again, unless the frame is stored or persisted.

    Raise OptionError (a ValueError) before anything is fetched: a missing column, a result column that
    exists already, a wrong option, a box format that no box fits, a store that is not writable.
    Raise EngineError when an engine cannot run.
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
    """Return the frame with its result columns, by parsed options."""
    if isinstance(df, str | Path):
        return _crop_files(str(df), options, engine)
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
    if module == "ray":
        from fugue_jobs.frame.ray import crop_ray

        _refuse_engine(engine, "Ray")
        check_store(options)
        return crop_ray(df, options)
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
        # An empty table has no batches.
        return next(iter(out.to_batches()), pa.RecordBatch.from_pylist([], schema=out.schema))
    if type(df).__name__ == "DuckDBPyRelation":
        return crop_duckdb(df, options, cut)
    raise OptionError(f"df: a {type(df).__module__}.{type(df).__name__} is not supported; pass {_TAKEN}")


def _crop_files(where: str, options: Options, engine: object) -> Any:
    import pandas as pd

    from cropline.config.settings import load_installation
    from fugue_jobs.frame.files import read_files

    table = read_files(where, load_installation().bucket_spec)
    # Arrow types in pandas keep the file's types: integers with nulls, lists and zoned timestamps.
    return _crop_local(table.to_pandas(types_mapper=pd.ArrowDtype), options, engine)


def _checked(cut: Cutter) -> Cutter:
    """Return ``cut``, preceded by a check of the store: after the columns are checked, before any fetch."""

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
    from fugue_jobs.imaging.lossless import cannot_copy

    refusal = cannot_copy() if options.profile.copies_bits else None
    if refusal is not None:
        raise EngineError(refusal)
    with _progress(len(rows)) as tell:
        return cut_rows(rows, options, options.processes, tell)


@contextmanager
def _progress(total: int) -> Iterator[Emit | None]:
    """Show a progress bar in a terminal or a notebook."""
    if "ipykernel" in sys.modules:
        yield from _in_notebook(total)
        return
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cropline.core.screen import Screen

    shown = (TextColumn("cropping"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shown, console=Screen(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda ended: bar.update(task, completed=ended)


def _in_notebook(total: int) -> Iterator[Emit]:
    """Show the browser's own progress bar: rich's needs ipywidgets in a notebook, and warns without them."""
    from IPython.display import display

    shown: Any = display({"text/html": ""}, raw=True, display_id=True)
    last = 0.0

    def tell(ended: int) -> None:
        nonlocal last
        if shown is not None and monotonic() - last > _REDRAWN_S:
            last = monotonic()
            bar = f'cropping <progress value="{ended}" max="{total}"></progress> {ended:,} of {total:,}'
            shown.update({"text/html": bar}, raw=True)

    try:
        yield tell
    finally:
        if shown is not None:
            shown.update({"text/html": ""}, raw=True)


def _refuse_engine(engine: object, kind: str) -> None:
    if engine is not None and not _is_same(engine, kind):
        raise OptionError(f"engine: a {kind} frame is cut by its own engine; leave engine out")


def _is_same(engine: object, kind: str) -> bool:
    name = engine if isinstance(engine, str) else f"{type(engine).__module__} {type(engine).__name__}"
    return kind.lower() in name.lower() or (kind == "Dask" and name.startswith("distributed"))
