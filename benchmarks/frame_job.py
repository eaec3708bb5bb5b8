"""cropline.crop as a process: ``python -m benchmarks.frame_job`` reads orders, one JSON line each, and does them.

It imports nothing else of the benchmarks but the whole job's own process: its memory is measured.
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

# How many rows of boxes that cannot be cut an image has in the frame whose memory is measured.
ROWS_AN_IMAGE = 1_000


def main() -> None:
    """Answers each order with its seconds, or with what a large frame took."""
    os.environ["CROPLINE_FETCH__ALLOW_LOOPBACK"] = "true"
    for line in sys.stdin:
        order = json.loads(line)
        answer = large(order) if order.get("rows") else timed(order)
        print(json.dumps(answer), flush=True)


def timed(order: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a frame with one row a box, crops going to the store."""
    rows = [(url, *box) for _, url, boxes in order["images"] for box in boxes]
    frame = pd.DataFrame(rows, columns=["ImgUrl", "xmin", "ymin", "xmax", "ymax"])
    function = {"function": same, "version": "1"} if order["function"] else {}
    started = time.monotonic()
    out = cropline.crop(frame, store=order["store"], processes=2, **function)
    seconds = time.monotonic() - started
    written = int((out["crop_status"] == "written").sum())
    if written != len(rows):
        raise RuntimeError(f"{written} of {len(rows)} crops were written")
    # A crop that is there already would only be looked at in the next round.
    shutil.rmtree(Path(url2pathname(urlsplit(order["store"]).path)) / "frames")
    return {"seconds": seconds}


def same(image: Any, row: Any) -> dict[str, Any]:  # noqa: ARG001 - a function's signature
    """Does nothing."""
    return {}


def large(order: dict[str, Any]) -> dict[str, Any]:
    """Peak memory of this process over a frame of so many rows, and what the frame that comes back takes."""
    count = order["rows"]
    urls = [f"{order['url']}#{number // ROWS_AN_IMAGE}" for number in range(count)]
    # Boxes that end before they begin, but for one: as many rows as one likes, and next to no time.
    frame = pd.DataFrame({"ImgUrl": urls, "xmin": 0.5, "ymin": 0.5, "xmax": 0.1, "ymax": 0.1})
    frame.loc[0, ["xmin", "ymin", "xmax", "ymax"]] = [0.1, 0.1, 0.2, 0.2]
    del urls
    before = peak_mb()
    out = cropline.crop(frame, processes=2)
    return {"before_mb": before, "peak_mb": peak_mb(), "frame_mb": out.memory_usage(deep=True).sum() / 1e6}


def peak_mb() -> float:
    """The most that this process has held, without its crop processes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
