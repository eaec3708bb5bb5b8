"""The methods that the crop engine is compared with: plain code, plain code in a pool, and the floor.

This is code as written without cropline, so it imports none of it. Run as a process:
``python -m benchmarks.crop_ways floor`` reads one line of JSON per measurement and prints its seconds.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import requests
from PIL import Image

Box = tuple[float, float, float, float]
QUALITY = 90


def plain_crop(url: str, box: Box, store: Callable[[bytes], None]) -> None:
    """Cut one box the plain way: fetch the photo, open, crop, save."""
    image = Image.open(io.BytesIO(requests.get(url, timeout=30).content))
    store(encoded(image, box))


def encoded(image: Image.Image, box: Box) -> bytes:
    width, height = image.size
    edges = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    out = io.BytesIO()
    image.crop(tuple(int(edge + 0.5) for edge in edges)).save(out, "JPEG", quality=QUALITY)  # type: ignore[arg-type]
    return out.getvalue()


def to_file(path: str) -> Callable[[bytes], None]:
    def store(data: bytes) -> None:
        Path(path).write_bytes(data)

    return store


def to_s3(client: Any, key: str) -> Callable[[bytes], None]:
    def store(data: bytes) -> None:
        client.put_object(Bucket="sink", Key=key, Body=data)

    return store


def plain(tasks: list[tuple[str, Box, str]]) -> float:
    """Return the seconds for a list of (url, box, file)."""
    started = time.monotonic()
    for url, box, path in tasks:
        plain_crop(url, box, to_file(path))
    return time.monotonic() - started


def plain_s3(tasks: list[tuple[str, Box, str]], endpoint: str) -> float:
    """Return the seconds for a list of (url, box, key), by boto3's put_object."""
    from boto3 import client

    s3 = client("s3", endpoint_url=endpoint, region_name="us-east-1")
    started = time.monotonic()
    for url, box, key in tasks:
        plain_crop(url, box, to_s3(s3, key))
    return time.monotonic() - started


def _plain_task(task: tuple[str, Box, str]) -> None:
    url, box, path = task
    plain_crop(url, box, to_file(path))


def pooled(tasks: list[tuple[str, Box, str]]) -> float:
    """Return the seconds of the plain way in a multiprocessing pool of 2, without its start."""
    with get_context("spawn").Pool(2) as pool:
        pool.map(_plain_task, tasks[:2])
        started = time.monotonic()
        pool.map(_plain_task, tasks, chunksize=4)
        return time.monotonic() - started


def _floor_process(photos: list[tuple[bytes, list[Box]]], turn: Any, start: Any, seconds: Any) -> None:
    """Decode, crop and encode the next photo from memory, until none is left."""
    _floor_photo(*photos[0])
    start.wait()
    started = time.monotonic()
    while True:
        with turn.get_lock():
            number = turn.value
            turn.value += 1
        if number >= len(photos):
            break
        _floor_photo(*photos[number])
    seconds.put((started, time.monotonic()))


def _floor_photo(data: bytes, boxes: list[Box]) -> None:
    image = Image.open(io.BytesIO(data))
    image.load()
    for box in boxes:
        encoded(image, box)


def floor(photos: list[tuple[bytes, list[Box]]]) -> float:
    """Return the seconds of two processes that only decode, crop and encode, without network, files or their start."""
    context = get_context("fork")
    turn, start, seconds = context.Value("i", 0), context.Barrier(2), context.Queue()
    processes = [context.Process(target=_floor_process, args=(photos, turn, start, seconds)) for _ in range(2)]
    for process in processes:
        process.start()
    times = [seconds.get() for _ in processes]
    for process in processes:
        process.join()
    return max(end for _, end in times) - min(begin for begin, _ in times)


def serve_floor() -> None:
    """Hold the photos and measure the floor on request: one JSON line with the boxes of each photo."""
    paths = [Path(line) for line in json.loads(sys.stdin.readline())]
    data = [path.read_bytes() for path in paths]
    for line in sys.stdin:
        boxes = json.loads(line)
        print(floor(list(zip(data, boxes, strict=True))), flush=True)


if __name__ == "__main__":
    serve_floor()
