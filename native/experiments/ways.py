"""Shared by the experiments: the C library, photos of the benchmark's bed with boxes, interleaved CPU measurements."""

from __future__ import annotations

import ctypes
import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cropline_regions import Band, _plan, decode
from PIL import Image

from benchmarks.bed import BedPhoto, draw_bed, shelf_boxes

Box = tuple[int, int, int, int]

PHOTOS = int(os.environ.get("PHOTOS", "8"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
LIBRARY = ctypes.CDLL(str(Path(__file__).parent / "build" / "libexperiments.so"))
LIBRARY.splice_open.restype = ctypes.c_void_p
LIBRARY.splice_cut.restype = LIBRARY.restart_stream.restype = ctypes.c_size_t
LIBRARY.lossless_cut.restype = LIBRARY.transcode.restype = ctypes.c_size_t
LIBRARY.coefficients_open.restype = ctypes.c_void_p
_LOCAL = threading.local()


def bed() -> list[BedPhoto]:
    return draw_bed(PHOTOS)


def kinds(photo: BedPhoto) -> dict[str, list[Box]]:
    """Return the benchmark's box lists in pixels."""
    found = {"37 shelf": shelf_boxes(photo), "37 anywhere": photo.boxes}
    found |= {"5 shelf": found["37 shelf"][:5], "5 anywhere": photo.boxes[:5], "1 shelf": found["37 shelf"][:1]}
    return {kind: [in_pixels(box, photo) for box in boxes] for kind, boxes in found.items()}


def in_pixels(box: Sequence[float], photo: BedPhoto) -> Box:
    left, top, right, bottom = box
    return (
        round(left * photo.width),
        round(top * photo.height),
        round(right * photo.width),
        round(bottom * photo.height),
    )


def by_bands(data: bytes, boxes: list[Box], **options: Any) -> list[Band]:
    """Decode in bands, as the product does for photos that it cannot cut."""
    return decode(data, boxes, way="bands", **options)


def plan(boxes: list[Box], width: int, height: int, *, margin: int = 8) -> _plan.Bands:
    return _plan.bands(boxes, _plan.Picture(width, height, 1, 1), margin)


def scratch(size: int) -> Any:
    """Return memory for the library's results, one per thread; made once, since that takes a millisecond."""
    if len(getattr(_LOCAL, "buffer", b"")) < size:
        _LOCAL.buffer = ctypes.create_string_buffer(size)
    return _LOCAL.buffer


def pillow(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def least(steps: dict[str, Callable[[], Any]], clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """Return the milliseconds of each step, interleaved, the least of all rounds: other load only slows things down."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            began = clock()
            step()
            taken[name].append((clock() - began) * 1000)
    return {name: min(times) for name, times in taken.items()}


class Sums:
    """Milliseconds summed over photos, printed as means with the ratio to one of the methods."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, float]]] = {}

    def add(self, row: str, taken: dict[str, float]) -> None:
        self._rows.setdefault(row, []).append(taken)

    def show(self, base: str) -> None:
        for row, all_taken in self._rows.items():
            mean = {name: sum(taken[name] for taken in all_taken) / len(all_taken) for name in all_taken[0]}
            ways = "   ".join(f"{name} {ms:.1f} ({mean[base] / ms:.2f} x)" for name, ms in mean.items())
            print(f"{row:14} {ways}", flush=True)
