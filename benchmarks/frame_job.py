"""cropline.crop as a process: ``python -m benchmarks.frame_job`` reads orders, one JSON line each, and runs them.

Its memory is measured, so it imports no other benchmark except the whole job's process.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd

import cropline

# Rows per image in the frame whose memory is measured; their boxes cannot be cut.
ROWS_AN_IMAGE = 1_000


def main() -> None:
    """Print for each order its seconds, or the memory of a large frame."""
    os.environ["CROPLINE_FETCH__ALLOW_LOOPBACK"] = "true"
    for line in sys.stdin:
        order = json.loads(line)
        answer = large(order) if order.get("rows") else timed(order)
        print(json.dumps(answer), flush=True)


def timed(order: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of a frame with one row per box, crops going to the store."""
    rows = [(url, *box) for _, url, boxes in order["images"] for box in boxes]
    frame = pd.DataFrame(rows, columns=["ImgUrl", "xmin", "ymin", "xmax", "ymax"])
    function = {"function": same, "version": "1"} if order["function"] else {}
    session = spark() if order.get("engine") == "spark" else None
    started = time.monotonic()
    if session is None:
        out = cropline.crop(frame, store=order["store"], processes=2, **function)
        status = out["crop_status"].tolist()
    else:
        cut = cropline.crop(session.createDataFrame(frame), store=order["store"])
        status = cut.toArrow()["crop_status"].to_pylist()
    seconds = time.monotonic() - started
    written = status.count("written")
    if written != len(rows):
        raise RuntimeError(f"{written} of {len(rows)} crops were written")
    # Otherwise the next round would only check crops that exist.
    shutil.rmtree(Path(url2pathname(urlsplit(order["store"]).path)) / "frames")
    return {"seconds": seconds}


def spark() -> Any:
    """Return the session of this process, with the settings that the job's has."""
    from pyspark.sql import SparkSession

    from cropline.config.settings import EngineSettings
    from fugue_jobs.engines.spark import options

    builder = SparkSession.builder.master(EngineSettings().master)
    for name, value in options(EngineSettings(kind="spark"), 1).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def same(image: Any, row: Any) -> dict[str, Any]:  # noqa: ARG001 - a function's signature
    """No-op function."""
    return {}


def large(order: dict[str, Any]) -> dict[str, Any]:
    """Return this process's peak memory over a frame of this many rows, and the returned frame's memory."""
    count = order["rows"]
    urls = [f"{order['url']}#{number // ROWS_AN_IMAGE}" for number in range(count)]
    # All boxes but one are inverted: many rows cost almost no time.
    frame = pd.DataFrame({"ImgUrl": urls, "xmin": 0.5, "ymin": 0.5, "xmax": 0.1, "ymax": 0.1})
    frame.loc[0, ["xmin", "ymin", "xmax", "ymax"]] = [0.1, 0.1, 0.2, 0.2]
    del urls
    before = peak_mb()
    out = cropline.crop(frame, processes=2)
    return {"before_mb": before, "peak_mb": peak_mb(), "frame_mb": out.memory_usage(deep=True).sum() / 1e6}


def peak_mb() -> float:
    """Return this process's peak memory, without its crop processes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
