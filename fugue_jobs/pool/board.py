"""Which function call a crop process is in, written to memory that it shares with the pool.

A message for each call cost more than many functions. The memory outlives the process, so that the pool finds the crops
to blame when it dies.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

# The crops of the largest batch (config/steps.py) take less.
_SIZE = 1 << 20
_HEAD = 32
_HAND = struct.Struct("=qqq")


class InHand(NamedTuple):
    """Identifies a crop to the parent: the image's number, the order, the box."""

    number: int
    order: int
    box: int


class Limits(NamedTuple):
    """Of each call of a function."""

    timeout_s: float
    memory_mb: int
    use: str


class Applying(NamedTuple):
    """A call of a function in progress."""

    hands: tuple[InHand, ...]
    limits: Limits
    began: float  # time.monotonic(), which all processes of a machine share


class Board:
    """One writer, the crop process, and one reader, the pool.

    The head holds how many calls have begun and ended (odd during a call), the length of the pickled limits, the number
    of crops, and when the last call began and ended. The limits and the crops follow it.
    """

    def __init__(self, fd: int) -> None:
        os.ftruncate(fd, _SIZE)
        self._memory = mmap.mmap(fd, _SIZE)
        view = memoryview(self._memory)
        self._numbers, self._times = view[:12].cast("I"), view[16:_HEAD].cast("d")
        self._limits: Limits | None = None  # as last written

    def begin(self, hands: Sequence[InHand], limits: Limits) -> None:
        """Record that a call begins."""
        if limits != self._limits:
            text = pickle.dumps(limits)
            self._memory[_HEAD : _HEAD + len(text)] = text
            self._numbers[1], self._limits = len(text), limits
        at = _HEAD + self._numbers[1]
        for hand in hands:
            _HAND.pack_into(self._memory, at, *hand)
            at += _HAND.size
        self._numbers[2] = len(hands)
        self._times[0] = monotonic()
        self._numbers[0] += 1

    def end(self) -> None:
        """Record that the call has ended."""
        self._times[1] = monotonic()
        self._numbers[0] += 1

    def applying(self) -> Applying | None:
        """Return the call in progress, also of a dead process; None outside of one."""
        while (count := self._numbers[0]) % 2:
            _, length, crops = self._numbers
            end = _HEAD + length + crops * _HAND.size
            written, began = self._memory[_HEAD:end], self._times[0]
            if self._numbers[0] == count:
                hands = tuple(InHand(*hand) for hand in _HAND.iter_unpack(written[length:]))
                return Applying(hands, pickle.loads(written[:length]), began)  # noqa: S301 - written by our own process
        return None

    @property
    def ended_at(self) -> float:
        """When the last call ended, by time.monotonic(); 0 before the first."""
        return self._times[1]
