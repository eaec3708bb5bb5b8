"""The pool of crop processes: who cuts what, and what happens when a decoder hangs or dies.

Belongs here: starting, feeding, watching, killing and replacing processes, from one thread and without locks. Does not:
what a process does (crop_process.py) or rows (crop_images.py).

Images are handed out one by one to the process with the fewest, so a slow photo holds up at most the few that were
already handed to its process. A photo whose decoding makes no progress for ``decode_timeout_s`` is failed
(``decode_hung``) and its process killed. When a process dies, the photo it was decoding is tried once more, alone in a
process; if that one dies too the photo fails. All other photos of a lost process are simply done again: the same work
writes the same bytes to the same keys.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from time import monotonic
from types import TracebackType
from typing import Any, Self

from cropline.errors import EngineError
from cropline.failures import PhotoFailure
from fugue_jobs.blame import Applying, memory_mb, without
from fugue_jobs.child import Child
from fugue_jobs.crop_process import OWN_PIXELS, Assignment
from fugue_jobs.work import CropOutcome, ImageOutcome, ImageWork, failed, failed_photo

log = logging.getLogger(__name__)

AHEAD = 3  # images in a process: one being fetched, one decoded, one stored
CHECK_S = 1.0  # how often whoever runs the pool is asked whether it is to go on
SEAL_S = 900  # a pack of half a gigabyte goes over a slow line; the store's own timeouts are shorter
STALL_S = 300  # beyond the fetch and decode limits: a process that says nothing for so long is lost
LOAD_S = 900  # a function's model may come over a slow line
LOOK_S = 0.1  # between two looks at the memory of a process that is in a function
MAX_LOSSES = 5  # processes lost in a row without one image done between: they cannot work here
# Sent to whole process groups by people and schedulers: no photo's fault.
_FROM_OUTSIDE = frozenset([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])


@dataclass(eq=False, slots=True)
class _Ticket:
    number: int
    work: ImageWork
    failed: list[CropOutcome] = field(default_factory=list)  # crops that a function's end took with it
    deaths: int = 0  # processes that died while they had this photo in their decoder

    @property
    def alone(self) -> bool:
        return self.deaths > 0

    def ended(self, outcome: ImageOutcome) -> tuple[int, ImageOutcome]:
        """The outcome as it leaves the pool, with the crops that failed before."""
        return self.number, outcome._replace(crops=[*outcome.crops, *self.failed]) if self.failed else outcome


@dataclass(eq=False, slots=True)
class _Desk:
    """One process and what it holds."""

    child: Child
    tickets: dict[int, _Ticket] = field(default_factory=dict)
    packed: dict[int, _Ticket] = field(default_factory=dict)  # all cut; done when the packs with their crops are stored
    sealing: bool = False  # was told that no more will come
    decoding: int | None = None
    applying: Applying | None = None
    loading: str | None = None
    pixels: int = 0  # granted beyond OWN_PIXELS
    heard: float = field(default_factory=monotonic)

    @property
    def owes(self) -> bool:
        return bool(self.tickets) or self.sealing or self.applying is not None

    @property
    def can_take(self) -> bool:
        return len(self.tickets) < AHEAD and not any(ticket.alone for ticket in self.tickets.values())


def _shared(assignment: Assignment, size: int) -> Assignment:
    """What one of ``size`` processes is started with: its share of the connections to a host, one at the least."""
    share = max(1, assignment.fetch.connections_per_host // size)
    return assignment._replace(fetch=assignment.fetch.model_copy(update={"connections_per_host": share}))


class CropPool:
    """Crop processes for one assignment. Used by one thread at a time; they live until close()."""

    def __init__(self, assignment: Assignment, size: int) -> None:
        self._assignment = _shared(assignment, size)
        self._size = size
        self._desks: list[_Desk] = []
        self._waiting: deque[_Ticket] = deque()
        self._asking: deque[tuple[_Desk, int]] = deque()
        self._losses = 0
        # Large photos share this many pixels among all processes.
        self._spare = max(assignment.pictures.max_pixels - OWN_PIXELS, OWN_PIXELS * size // 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The processes' ids, for whoever measures them."""
        return [desk.child.pid for desk in self._desks]

    @property
    def decoding(self) -> dict[int, str]:
        """Process id -> id of the image that it is decoding, as far as it has said."""
        busy = [(desk, desk.tickets.get(desk.decoding)) for desk in self._desks if desk.decoding is not None]
        return {desk.child.pid: ticket.work.image_id for desk, ticket in busy if ticket is not None}

    def run(
        self, works: Iterable[ImageWork], batch: str = "", check: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, ImageOutcome]]:
        """(position in works, its outcome) for every image, in the order in which they end. Pulls works as it needs them.

        ``check`` is called about every second, whatever the photos do; what it raises ends this.

        Raises EngineError when processes cannot be started or keep dying without a photo to blame.
        """
        source = enumerate(works)
        exhausted = False
        while True:
            while not exhausted and len(self._waiting) < self._size:
                number, work = next(source, (-1, None))
                if work is None:
                    exhausted = True
                else:
                    self._waiting.append(_Ticket(number, work))
            self._hand_out(batch)
            if exhausted and not self._waiting and not any(desk.tickets for desk in self._desks):
                if not any(desk.packed for desk in self._desks):
                    return
                self._seal()
            yield from self._listen(CHECK_S if check is not None else None)
            if check is not None:
                check()

    def close(self) -> None:
        """End all processes, at once; what they were doing is lost."""
        for desk in self._desks:
            desk.child.kill()
        self._desks.clear()
        self._waiting.clear()
        self._asking.clear()

    def _seal(self) -> None:
        for desk in self._desks:
            if desk.packed and not desk.sealing:
                desk.sealing, desk.heard = True, monotonic()
                desk.child.send(("seal",))

    def _hand_out(self, batch: str) -> None:
        for _ in range(len(self._waiting)):
            ticket = self._waiting.popleft()
            desk = self._desk_for(ticket)
            if desk is None:
                self._waiting.append(ticket)
                continue
            desk.tickets[ticket.number] = ticket
            desk.heard = monotonic()
            desk.child.send(("image", ticket.number, ticket.work, batch))

    def _desk_for(self, ticket: _Ticket) -> _Desk | None:
        idle = [desk for desk in self._desks if not desk.tickets]
        if idle:
            return idle[0]
        if len(self._desks) < self._size:
            self._desks.append(_Desk(Child(self._assignment)))
            return self._desks[-1]
        if ticket.alone:
            return None
        free = [desk for desk in self._desks if desk.can_take]
        return min(free, key=lambda desk: len(desk.tickets)) if free else None

    def _listen(self, at_most_s: float | None) -> Iterator[tuple[int, ImageOutcome]]:
        """Wait for messages until the next deadline, take them all, then judge who is overdue."""
        by_pipe = {desk.child.pipe: desk for desk in self._desks}
        for pipe in wait(list(by_pipe), timeout=_sooner(self._patience(), at_most_s)):
            desk = by_pipe[pipe]  # type: ignore[index]
            # All that lies in the pipe, so that a deadline is never judged by old news.
            while desk in self._desks and desk.child.has_news():
                message = desk.child.receive()
                if message is None:
                    yield from self._lost(desk)
                else:
                    yield from self._heard(desk, message)
        for desk in list(self._desks):
            if desk.applying is not None:
                yield from self._watch(desk, desk.applying)
            elif desk.owes and monotonic() - desk.heard > self._limit(desk):
                yield from self._overdue(desk)

    def _patience(self) -> float | None:
        busy = [desk.heard + self._limit(desk) for desk in self._desks if desk.owes and desk.applying is None]
        if any(desk.applying is not None for desk in self._desks):
            busy.append(monotonic() + LOOK_S)
        return max(0.0, min(busy) - monotonic()) + 0.01 if busy else None

    def _limit(self, desk: _Desk) -> float:
        settings = self._assignment
        if desk.loading is not None:
            return LOAD_S
        if desk.decoding is not None:
            return settings.pictures.decode_timeout_s
        if desk.sealing:
            return SEAL_S
        return settings.fetch.timeout_s + settings.pictures.decode_timeout_s + STALL_S

    def _heard(self, desk: _Desk, message: tuple[Any, ...]) -> Iterator[tuple[int, ImageOutcome]]:
        kind = message[0]
        if kind == "broken":
            raise EngineError(f"a crop process cannot work: {message[1]}\n{message[2]}".rstrip())
        desk.heard = monotonic()
        if kind == "function":
            desk.applying = Applying(message[1], message[2], message[3], message[4], desk.heard)
        elif kind == "applied":
            desk.applying = desk.loading = None
        elif kind == "loading":
            desk.loading = message[1]
        elif kind == "said":
            log.info("%s", message[1])
        elif kind == "decoding":
            desk.decoding = message[1]
        elif kind == "asks":
            desk.decoding = None
            self._asking.append((desk, message[2] - OWN_PIXELS))
            self._grant()
        elif kind == "decoded":
            self._release(desk)
        elif kind == "packed":
            desk.packed[message[1]] = desk.tickets.pop(message[1])
            desk.sealing = False  # it came after what was sealed
        elif kind == "done":
            _, number, outcome, faults = message
            ticket = desk.tickets.pop(number, None) or desk.packed.pop(number)
            desk.sealing = desk.sealing and bool(desk.packed)
            for fault in faults:
                log.error("image %s: %s", ticket.work.image_id, fault)
            self._losses = 0
            yield ticket.ended(outcome)

    def _grant(self) -> None:
        while self._asking and self._asking[0][1] <= self._spare:
            desk, pixels = self._asking.popleft()
            self._spare -= pixels
            desk.pixels = pixels
            desk.child.send(("go",))

    def _release(self, desk: _Desk) -> None:
        desk.decoding = None
        self._spare += desk.pixels
        desk.pixels = 0
        self._grant()

    def _drop(self, desk: _Desk) -> int:
        """Take the process off the pool and end it. Returns its exit status, negative for a signal."""
        status = desk.child.kill()
        self._desks.remove(desk)
        self._asking = deque(item for item in self._asking if item[0] is not desk)
        self._losses += 1
        if self._losses > MAX_LOSSES + self._size:
            raise EngineError(f"crop processes keep ending (status {status}): {desk.child.last_words}")
        return status

    def _watch(self, desk: _Desk, applying: Applying) -> Iterator[tuple[int, ImageOutcome]]:
        """Ends a process whose function takes too long, or too much memory."""
        if monotonic() - applying.began > applying.timeout_s:
            self._drop(desk)
            yield from self._blame(desk, applying, "function_timeout", f"longer than {applying.timeout_s:g} s")
        elif memory_mb(desk.child.pid) > applying.memory_mb:
            self._drop(desk)
            yield from self._blame(desk, applying, "function_died", f"its process took over {applying.memory_mb} MB")

    def _blame(self, desk: _Desk, applying: Applying, code: str, why: str) -> Iterator[tuple[int, ImageOutcome]]:
        """The crop in hand fails; of several in hand each is tried alone. All other work of the process is done again."""
        self._losses = 0
        tickets = desk.tickets | desk.packed
        for hand in applying.hands:
            ticket = tickets[hand.number]
            if len(applying.hands) > 1:
                ticket.work = ticket.work._replace(singly=True)
            else:
                ticket.failed.append(failed(hand.order, hand.box, PhotoFailure(code, f"{applying.use}: {why}")))
                ticket.work = without(ticket.work, hand)
        for ticket in tickets.values():
            if ticket.work.crops:
                self._waiting.appendleft(ticket)
            else:
                yield ticket.ended(ImageOutcome([]))
        self._release(desk)

    def _overdue(self, desk: _Desk) -> Iterator[tuple[int, ImageOutcome]]:
        if desk.loading is not None:
            raise EngineError(f"the function {desk.loading} was not loaded in {LOAD_S} s")
        decoding = desk.decoding
        self._drop(desk)
        self._waiting.extend(desk.packed.values())
        for ticket in desk.tickets.values():
            if decoding is None:
                yield from self._suspect(ticket, "decode_hung")
            elif ticket.number == decoding:
                detail = f"no progress in {self._assignment.pictures.decode_timeout_s:g} s"
                yield ticket.ended(failed_photo(ticket.work, PhotoFailure("decode_hung", detail)))
            else:
                self._waiting.appendleft(ticket)
        self._release(desk)

    def _lost(self, desk: _Desk) -> Iterator[tuple[int, ImageOutcome]]:
        status = self._drop(desk)
        if desk.applying is not None and -status not in _FROM_OUTSIDE:
            yield from self._blame(desk, desk.applying, "function_died", "its process ended")
            return
        if desk.loading is not None:
            raise EngineError(f"the function {desk.loading} ended its process (status {status}) while it was loaded")
        log.warning("a crop process ended with status %s: %s", status, desk.child.last_words)
        blamed = desk.tickets.keys() if desk.decoding is None else {desk.decoding}
        self._waiting.extend(desk.packed.values())  # the packs that they were in are lost, and not through their fault
        code = "decoder_killed" if status == -signal.SIGKILL else "decoder_died"
        for ticket in desk.tickets.values():
            if ticket.number in blamed and -status not in _FROM_OUTSIDE:
                yield from self._suspect(ticket, code)
            else:
                self._waiting.appendleft(ticket)
        self._release(desk)

    def _suspect(self, ticket: _Ticket, code: str) -> Iterator[tuple[int, ImageOutcome]]:
        """Once more, alone; the second time the photo is at fault."""
        ticket.deaths += 1
        if ticket.deaths < 2:
            self._waiting.append(ticket)
            return
        detail = "its decoder ended twice, the second time with nothing else in its process"
        yield ticket.ended(failed_photo(ticket.work, PhotoFailure(code, detail)))


def _sooner(patience: float | None, at_most_s: float | None) -> float | None:
    """The shorter of two waits; None has no end."""
    waits = [wait_s for wait_s in (patience, at_most_s) if wait_s is not None]
    return min(waits, default=None)


# At most one idle pool is kept, so that a flow's next batch finds its processes running.
_idle: list[tuple[Assignment, int, CropPool]] = []


def borrow_pool(assignment: Assignment, size: int) -> CropPool:
    """A pool for this assignment: the idle one when it fits, else a new one. Give it back with return_pool or close it."""
    while idle := _taken():
        kept, kept_size, pool = idle
        if kept == assignment and kept_size == size:
            return pool
        pool.close()
    return CropPool(assignment, size)


def return_pool(assignment: Assignment, size: int, pool: CropPool) -> None:
    """Keep an unharmed pool for the next batch."""
    close_idle_pools()
    _idle.append((assignment, size, pool))


def close_idle_pools() -> None:
    """End all processes that wait for work."""
    while idle := _taken():
        idle[2].close()


def _taken() -> tuple[Assignment, int, CropPool] | None:
    """An idle pool, off the list. Workers of Dask may have threads: what one takes, the other does not find."""
    try:
        return _idle.pop()
    except IndexError:
        return None


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _forget_pools() -> None:
    """In a fork: let go of the parent's pipes, else its processes would outlive it for as long as the fork lives."""
    for _, _, pool in _idle:
        for desk in pool._desks:
            desk.child.forget()
    _idle.clear()


atexit.register(close_idle_pools)
os.register_at_fork(after_in_child=_forget_pools)
