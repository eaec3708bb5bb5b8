"""Two threads on one photo, with and without restart markers, against two processes with a photo each.

Without markers the second thread must also read the entropy-coded bytes above its bands. Prints wall ms per
photo, so run it alone on a machine with two cores: latency, CPU, and time per photo when both cores are busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from restarts import Picked
from rewritten import rewritten
from ways import ROUNDS, Box, Sums, bed, by_bands, kinds, least, plan

ENTROPY = 0.57  # of a whole decode, docs/decisions/0009
AGAIN = 10  # photos per task of a process
Halves = tuple[list[Box], list[Box]]


def halves(boxes: list[Box], size: tuple[int, int], *, skips: bool) -> Halves:
    """Split at the row where both take equally long; ``skips``: no entropy-coded bit outside the bands is read."""

    def slower(row: int) -> float:
        return max(cost(half, size, skips=skips) for half in at(row))

    def at(row: int) -> Halves:
        upper = [(left, top, right, min(row, bottom)) for left, top, right, bottom in boxes if top < row]
        return upper, [(left, max(row, top), right, bottom) for left, top, right, bottom in boxes if bottom > row]

    return at(min(range(16, size[1], 16), key=slower))


def cost(boxes: list[Box], size: tuple[int, int], *, skips: bool) -> float:
    if not boxes:
        return 0.0
    (left, right), rows = plan(boxes, *size)
    covered = sum(bottom - top for top, bottom in rows) / size[1]
    return ENTROPY * (covered if skips else rows[-1][1] / size[1]) + (1 - ENTROPY) * covered * (right - left) / size[0]


def both(threads: ThreadPoolExecutor, step: Callable[[list[Box]], Any], parts: Halves) -> None:
    list(threads.map(step, [part for part in parts if part]))


def again(path: Path, boxes: list[Box]) -> None:
    data = path.read_bytes()
    for _ in range(AGAIN):
        by_bands(data, boxes)


def main() -> None:
    wall, cpu = Sums(), Sums()
    with (
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes,
    ):
        list(processes.map(again, [bed()[0].path] * 2, [[(0, 0, 9, 9)]] * 2))
        for photo in bed():
            data, size = photo.path.read_bytes(), (photo.width, photo.height)
            marked = rewritten(data, restart_rows=1)
            for kind, boxes in kinds(photo).items():
                plain, jumped = halves(boxes, size, skips=False), halves(boxes, size, skips=True)
                steps = {
                    "one thread": lambda boxes=boxes: by_bands(data, boxes),
                    "two": lambda plain=plain: both(threads, lambda part: by_bands(data, part), plain),
                    "one, markers": lambda boxes=boxes: Picked(marked, boxes, size, 0),
                    "two, markers": lambda jumped=jumped: both(
                        threads, lambda part: Picked(marked, part, size, 0), jumped
                    ),
                }
                latency = least(steps, time.perf_counter)
                rates = []
                for _ in range(max(1, ROUNDS // 2)):
                    began = time.perf_counter()
                    list(processes.map(again, [photo.path] * 2, [boxes] * 2))
                    rates.append((time.perf_counter() - began) * 1000 / (2 * AGAIN))
                latency["two processes, a photo each"] = min(rates)
                wall.add(kind, latency)
                cpu.add(kind, least(steps))
    print("wall ms a photo")
    wall.show("one thread")
    print("CPU ms a photo")
    cpu.show("one thread")


if __name__ == "__main__":
    main()
