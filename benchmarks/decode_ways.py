"""CPU of the decode stage: Pillow's whole decode against only the bands of the boxes, by ``python -m benchmarks.decode_ways``.

Belongs here: what runs inside the measured process. Reads one line of JSON, [[path, boxes in 0..1], ...], and answers with
the CPU seconds of each way over all of these photos, turn about; a photo's least of the rounds is taken, of each way.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

ROUNDS = 5


def cpu(step: Callable[[], Any]) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def pillow(data: bytes) -> None:
    Image.open(io.BytesIO(data)).load()


def pixels(boxes: list[list[float]], data: bytes) -> list[tuple[int, int, int, int]]:
    width, height = Image.open(io.BytesIO(data)).size
    sides = (width, height, width, height)
    return [tuple(round(edge * side) for edge, side in zip(box, sides, strict=True)) for box in boxes]  # type: ignore[misc]


class Memory:
    """What the product decodes into, photo after photo (fugue_jobs/canvas.py). Pillow's own decode takes new memory for each."""

    def __init__(self) -> None:
        self._held = bytearray()

    def room(self, size: int) -> bytearray:
        if len(self._held) < size:
            self._held = bytearray(size)
        return self._held


def least(path: str, boxes: list[list[float]], decode: Callable[..., Any]) -> tuple[float, float]:
    """CPU seconds of (Pillow, bands) for this photo."""
    data = Path(path).read_bytes()
    wanted = pixels(boxes, data)
    taken = [(cpu(lambda: pillow(data)), cpu(lambda: decode(data, wanted))) for _ in range(ROUNDS)]
    return min(whole for whole, _ in taken), min(bands for _, bands in taken)


def serve() -> None:
    try:
        from cropline_regions import decode
    except ImportError:
        decode = None
    memory = Memory()
    for line in sys.stdin:
        photos = json.loads(line)
        taken = [least(path, boxes, partial(decode, memory=memory.room)) for path, boxes in photos] if decode else []
        seconds = {"pillow": sum(whole for whole, _ in taken), "regions": sum(bands for _, bands in taken)}
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    serve()
