"""Ray: cuts a Ray Dataset in place, and rows of this process on a Ray cluster.

Ray sends code only when a process joins a cluster, and here the user has joined it. So our code travels with each task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cloudpickle
import pyarrow as pa

from cropline.core.errors import EngineError, OptionError
from fugue_jobs.engines.clusters import cause
from fugue_jobs.engines.shipping import zips
from fugue_jobs.frame.local import ArrowSource, take
from fugue_jobs.frame.options import check_clash, find_columns
from fugue_jobs.frame.results import Results, result_schema
from fugue_jobs.frame.spark import nests
from fugue_jobs.frame.tables import CropLoose, CropTables, loose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fugue_jobs.frame.options import Options
    from fugue_jobs.frame.rows import Rows

# As on Spark.
_PARTS_A_CORE = 4
_LOOKED_AT = 200


def crop_ray(data: Any, options: Options) -> Any:
    """Return the Dataset with its result columns. Lazy: each use crops again, unless it is materialised.

    The order of rows changes, because rows of one image are brought together. Datasets with a column of image bytes
    are not shuffled.
    """
    names = list(data.columns())
    columns = find_columns(names, options)
    image = str(columns.image)
    of_boxes = [str(name) for name in dict.fromkeys((columns.image, *columns.of_boxes))]
    looked_at = _table(data.select_columns(of_boxes).limit(_LOOKED_AT))
    nested = nests(columns, options, looked_at.schema)
    results = result_schema(options, nested=nested)
    check_clash(names, results.names)
    try:
        take(ArrowSource(looked_at), _only(options, image))
    except OptionError as error:
        if not str(error).startswith(("units:", "boxes:")):
            raise
        take(ArrowSource(_table(data.select_columns(of_boxes))), _only(options, image))
    work = CropTables(options, image, (*names, *results.names))
    if not pa.types.is_binary(looked_at.schema.field(image).type):
        data = data.repartition(options.partitions or _parts(), keys=[image], sort=True)
    elif options.partitions:
        data = data.repartition(options.partitions)
    # Whole blocks: a smaller batch could end in the middle of an image.
    return data.map_batches(
        _with_our_code(work.whole, options.ship), batch_size=None, batch_format="pyarrow", num_cpus=1
    )


def _only(options: Options, image: str) -> Options:
    from dataclasses import replace

    return replace(options, columns={**options.columns, "image": image, "label": None})


def _table(data: Any) -> pa.Table:
    import ray

    tables = [table for table in ray.get(data.to_arrow_refs()) if table.num_rows]
    return pa.concat_tables(tables, promote_options="default") if tables else pa.Table.from_pylist([])


def crop_rows(rows: Rows, options: Options) -> Results:
    """Cut rows of this process on its Ray cluster. Raise EngineError when the job fails there."""
    import ray

    from fugue_jobs.engines.task_engine import partition_rows

    results = Results(len(rows), options)
    if not len(rows):
        return results
    if not ray.is_initialized():
        raise OptionError('engine: "ray" needs a cluster; join one with ray.init(...)')
    parts = partition_rows(loose(rows, options), ["code"], options.partitions or _parts())
    work = ray.remote(num_cpus=1)(_with_our_code(CropLoose(options).whole, options.ship))
    try:
        tables = ray.get([work.remote(part) for part in parts])
    except Exception as error:  # workers raise anything
        raise EngineError(f"the job failed on Ray: {cause(error)}") from error
    results.fill(pa.concat_tables(tables))
    return results


def _parts() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1))) * _PARTS_A_CORE


def _with_our_code(work: Callable[[pa.Table], pa.Table], modules: Sequence[str]) -> Callable[[pa.Table], pa.Table]:
    """Return the function for workers that have only third-party wheels.

    It is nested, because cloudpickle then sends its code; ``work`` is unpickled when our modules are there.
    """
    import ray

    code = ray.put({path.name: path.read_bytes() for path in zips(modules)})
    packed = cloudpickle.dumps(work)

    def with_our_code(table: pa.Table) -> pa.Table:
        import hashlib
        import importlib
        import pickle
        import sys
        import tempfile
        from pathlib import Path

        for name, data in ray.get(code).items():
            # The same place for the same code: workers of one machine share it.
            home = Path(tempfile.gettempdir()) / f"cropline-ray-{hashlib.sha256(data).hexdigest()[:16]}"
            target = home / name
            if str(target) not in sys.path:
                if not target.exists():
                    home.mkdir(mode=0o700, exist_ok=True)
                    with tempfile.NamedTemporaryFile(dir=home, delete=False) as file:
                        file.write(data)
                    Path(file.name).replace(target)
                sys.path.insert(0, str(target))
                importlib.invalidate_caches()
        done: pa.Table = pickle.loads(packed)(table)  # noqa: S301 - our own driver's
        return done

    return with_our_code
