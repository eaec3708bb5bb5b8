"""Which function call a crop process is in, written to memory that it shares with the pool.

A message for each call cost more than many functions. The memory outlives the process, so that the pool finds the crops
to blame when it dies.
"""

from __future__ import annotations

import mmap
import os
import pickle
from time import monotonic
from typing import NamedTuple

# The crops of the largest batch (config/steps.py) take less.
_SIZE = 1 << 20
_HEAD = 16


class InHand(NamedTuple):
    """Identifies a crop to the parent: the image's number, the order, the box."""

    number: int
    order: int
    box: int


class Applying(NamedTuple):
    """A call of a function in progress."""

    hands: tuple[InHand, ...]
    timeout_s: float
    memory_mb: int
    use: str
    began: float  # time.monotonic(), which all processes of a machine share


class Board:
    """One writer, the crop process, and one reader, the pool.

    The first number counts beginnings and ends of calls: it is odd during a call. The second is the length of the
    pickled call, which follows the head.
    """

    def __init__(self, fd: int) -> None:
        os.ftruncate(fd, _SIZE)
        self._memory = mmap.mmap(fd, _SIZE)
        view = memoryview(self._memory)
        self._numbers, self._ended = view[:8].cast("I"), view[8:_HEAD].cast("d")

    def begin(self, hands: tuple[InHand, ...], timeout_s: float, memory_mb: int, use: str) -> None:
        """Record that a call begins."""
        text = pickle.dumps(Applying(hands, timeout_s, memory_mb, use, monotonic()))
        self._memory[_HEAD : _HEAD + len(text)] = text
        self._numbers[1] = len(text)
        self._numbers[0] += 1

    def end(self) -> None:
        """Record that the call has ended."""
        self._ended[0] = monotonic()
        self._numbers[0] += 1

    def applying(self) -> Applying | None:
        """Return the call in progress, also of a dead process; None outside of one."""
        while (count := self._numbers[0]) % 2:
            text = self._memory[_HEAD : _HEAD + self._numbers[1]]
            if self._numbers[0] == count:
                found: Applying = pickle.loads(text)  # noqa: S301 - written by our own process
                return found
        return None

    @property
    def ended_at(self) -> float:
        """When the last call ended, by time.monotonic(); 0 before the first."""
        return self._ended[0]
