"""CPU of the decode stage: Pillow's whole decode against only what boxes need. ``python -m benchmarks.decode_ways``.

It is the measured process: it reads one line of JSON, [[path, boxes in 0..1], ...], and prints the CPU seconds of
each method over all photos. Methods take turns, and the least of the rounds counts per photo.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

ROUNDS = 5


def cpu(step: Callable[[], Any]) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def pillow(data: bytes, _wanted: object) -> None:
    Image.open(io.BytesIO(data)).load()


def pixels(boxes: list[list[float]], data: bytes) -> list[tuple[int, int, int, int]]:
    width, height = Image.open(io.BytesIO(data)).size
    sides = (width, height, width, height)
    return [tuple(round(edge * side) for edge, side in zip(box, sides, strict=True)) for box in boxes]  # type: ignore[misc]


class Memory:
    """The product's reused memory (fugue_jobs/imaging/canvas.py). Pillow's own decode allocates for each photo."""

    def __init__(self) -> None:
        self._held = bytearray()

    def room(self, size: int) -> bytearray:
        if len(self._held) < size:
            self._held = bytearray(size)
        return self._held


def least(path: str, boxes: list[list[float]], ways: dict[str, Callable[..., Any]]) -> dict[str, float]:
    """Return the CPU seconds of each method for this photo."""
    data = Path(path).read_bytes()
    wanted = pixels(boxes, data)
    taken = [{name: cpu(partial(way, data, wanted)) for name, way in ways.items()} for _ in range(ROUNDS)]
    return {name: min(each[name] for each in taken) for name in ways}


def serve() -> None:
    ways: dict[str, Callable[..., Any]] = {"pillow": pillow}
    with suppress(ImportError):
        from cropline_regions import decode

        memory = Memory().room
        # bands: the fallback of `regions` for photos that cannot be cut.
        ways |= {"regions": partial(decode, memory=memory), "bands": partial(decode, memory=memory, way="bands")}
    for line in sys.stdin:
        taken = [least(path, boxes, ways) for path, boxes in json.loads(line)]
        seconds = {name: sum(each[name] for each in taken) for name in ways}
        print(json.dumps({"regions": 0.0} | seconds), flush=True)


if __name__ == "__main__":
    serve()
