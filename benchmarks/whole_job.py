"""The whole crop job as a process: ``python -m benchmarks.whole_job`` reads orders, one JSON line each, and runs them.

Its memory is measured, so it imports no other benchmark.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from fugue_jobs.crop_images import CropJob


def serve() -> None:
    """Run whole jobs as they are ordered. Print their seconds and this process's peak memory."""
    for line in sys.stdin:
        order = json.loads(line)
        wanted = sum(len(boxes) for _, _, boxes in order["images"])
        images, claims = tables(order.pop("images"), order.pop("profile", None))
        kind, warm_s = order.pop("engine", "native"), order.pop("warm_s", 0)
        job = crop_job(**order)
        if warm_s:
            start_early(job, len(claims), warm_s)
        started, cpu = time.monotonic(), family_cpu_s()
        crops = run_whole_job(images, claims, job, kind)
        seconds, cpu = time.monotonic() - started, family_cpu_s() - cpu
        written = crops["status"].to_pylist().count("written")
        if written != wanted:
            raise RuntimeError(f"{written} of {wanted} crops were written")
        size = sum(crops["bytes"].to_pylist())
        print(
            json.dumps({"seconds": seconds, "cpu_s": cpu, "bytes": size, "peak_rss_mb": family_peak_mb()}), flush=True
        )


def start_early(job: CropJob, images: int, seconds: float) -> None:
    """Start the crop processes as a poll does, as long before the batch as a poll validates its first manifest."""
    from fugue_jobs.crop_images import warm

    warm(job, images)
    time.sleep(seconds)


def run_whole_job(images: pa.Table, claims: pa.Table, job: CropJob, kind: str) -> pa.Table:
    """Run the job, including Fugue's start the first time. Return its rows (schemas.CROPS)."""
    from cropline.config.settings import EngineSettings
    from cropline.core.schemas import STORES
    from fugue_jobs.engines.run import run_crop_job

    return run_crop_job(images, claims, STORES.empty_table(), job, EngineSettings.model_validate({"kind": kind}))


def crop_job(store: str, endpoint: str | None, packed: list[list[Any]] | None = None, processes: int = 2) -> CropJob:
    from cropline.config.pictures import PictureLimits
    from cropline.config.settings import FetchSettings
    from cropline.core.store_spec import StoreSpec
    from fugue_jobs.crop_images import CropJob

    spec = StoreSpec(store, endpoint, "us-east-1" if endpoint else None)
    kinds = tuple((profile, kind, full) for profile, kind, full in packed or ())
    return CropJob(
        spec, FetchSettings(allow_loopback=True).options, PictureLimits().options, processes=processes, packed=kinds
    )


def tables(ordered: list[Any], fields: dict[str, Any] | None = None) -> tuple[pa.Table, pa.Table]:
    """Return (image rows, claims) for the job, from (image id, url, boxes) each, by a profile of these fields."""
    import pyarrow as pa

    from cropline.config.profile import Profile
    from cropline.core import schemas

    left_out = ("work", "store_name", "city", "region", "store_format")
    shape = pa.schema([field for field in schemas.IMAGES if field.name not in left_out])
    profile = Profile(**fields or {})
    work = {"profile": "default", "profile_hash": profile.hash, "recipe": profile.recipe}
    images = [_image_row(number, *image) for number, image in enumerate(ordered)]
    claims = [
        {name: image[name] for name in ("source", "image_id", "manifest", "manifest_row")}
        | {"work": [work | {"fingerprint": image["image_id"].rjust(64, "0")}]}
        for image in images
    ]
    return pa.Table.from_pylist(images, schema=shape), pa.Table.from_pylist(claims, schema=schemas.CLAIM)


def _image_row(number: int, image_id: str, url: str, boxes: list[Any]) -> dict[str, Any]:
    edges = ("xmin", "ymin", "xmax", "ymax")
    return {
        "source": "bench",
        "image_id": image_id,
        "manifest": "bench",
        "manifest_row": number,
        "url": url,
        "coordinates": "normalised",
        "orientation": "upright",
        "boxes": [{"box_id": str(i)} | dict(zip(edges, box, strict=True)) for i, box in enumerate(boxes)],
    }


def family_peak_mb() -> float:
    """Return the summed peak resident memory of this process and its running children."""
    pid = os.getpid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_peak_mb(int(child)) for child in [pid, *children])


def family_cpu_s() -> float:
    """Return the CPU seconds of this process and of everything below it, ended processes included."""
    ticks, pids = 0, [os.getpid()]
    while pids:
        pid = pids.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended: its parent has its ticks
        ticks += sum(map(int, fields[11:15]))
        pids += [int(child) for found in children for child in found]
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    serve()
