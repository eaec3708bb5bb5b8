"""The pool of crop processes: distributes images, and handles decoders that hang or die. One thread, no locks.

A photo whose decoding makes no progress for ``decode_timeout_s`` fails (``decode_hung``), and its process is killed; slow
encoders get more time. When a process dies, the photo that it was decoding is tried once more, alone, and fails when that
process dies too. The lost process's other photos are done again.
"""

from __future__ import annotations

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

from cropline.core.errors import EngineError
from cropline.core.failures import PhotoFailure
from fugue_jobs.pool.assignment import OWN_PIXELS, Assignment
from fugue_jobs.pool.blame import memory_mb, without
from fugue_jobs.pool.board import Applying
from fugue_jobs.pool.child import Child, surroundings
from fugue_jobs.work import CropOutcome, ImageOutcome, ImageWork, failed, failed_photo

log = logging.getLogger(__name__)

AHEAD = 3  # images per process: one is fetched, one decoded, one stored
CHECK_S = 1.0  # interval of the caller's check
SEAL_S = 900  # half a gigabyte over a slow line; the store's own timeouts are shorter
STALL_S = 300  # beyond the fetch and decode limits: a process silent for this long is lost
LOAD_S = 900  # a function may download its model over a slow line
LOOK_S = 0.1  # interval of the time and memory checks of a process that runs functions
MAX_LOSSES = 5  # processes lost in a row without a finished image: no process can work here
# People and schedulers send these to whole process groups: no photo is to blame.
_FROM_OUTSIDE = frozenset([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])


@dataclass(eq=False, slots=True)
class _Job:
    number: int
    work: ImageWork
    failed: list[CropOutcome] = field(default_factory=list)  # crops that failed when a function ended the process
    deaths: int = 0  # processes that died while they decoded this photo

    @property
    def alone(self) -> bool:
        return self.deaths > 0

    def ended(self, outcome: ImageOutcome) -> tuple[int, ImageOutcome]:
        """Return the outcome with the crops that failed before."""
        return self.number, outcome._replace(crops=[*outcome.crops, *self.failed]) if self.failed else outcome


@dataclass(eq=False, slots=True)
class _WorkerSlot:
    """One process and its images."""

    child: Child
    jobs: dict[int, _Job] = field(default_factory=dict)
    packed: dict[int, _Job] = field(default_factory=dict)  # all crops cut; done when their packs are stored
    sealing: bool = False  # was asked to store its open packs
    decoding: int | None = None
    encode_s: float = 0.0  # that one crop of this photo may take besides
    loading: str | None = None
    calls: bool = False  # has loaded a function
    looked_at: float = 0.0
    pixels: int = 0  # granted beyond OWN_PIXELS
    heard_at: float = field(default_factory=monotonic)

    @property
    def applying(self) -> Applying | None:
        """The call of a function that it is in."""
        return self.child.board.applying() if self.calls else None

    @property
    def active_at(self) -> float:
        return max(self.heard_at, self.child.board.ended_at) if self.calls else self.heard_at

    @property
    def owes(self) -> bool:
        return bool(self.jobs) or self.sealing

    @property
    def can_take(self) -> bool:
        return len(self.jobs) < AHEAD and not any(job.alone for job in self.jobs.values())


class CropPool:
    """Crop processes for one assignment. For one thread at a time; they live until close()."""

    def __init__(self, assignment: Assignment, size: int) -> None:
        self._assignment = assignment.shared(size)
        self._size = size
        self._slots: list[_WorkerSlot] = []
        self._waiting: deque[_Job] = deque()
        self._asking: deque[tuple[_WorkerSlot, int]] = deque()
        self._losses = 0
        self.surroundings = surroundings()  # a function may depend on a variable that was set since
        # All processes together may decode this many more pixels of large photos.
        self._spare = max(assignment.pictures.max_pixels - OWN_PIXELS, OWN_PIXELS * size // 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The ids of the processes, for measurements."""
        return [slot.child.pid for slot in self._slots]

    @property
    def decoding(self) -> dict[int, str]:
        """Process id -> id of the image that it is decoding, as last reported."""
        busy = [(slot, slot.jobs.get(slot.decoding)) for slot in self._slots if slot.decoding is not None]
        return {slot.child.pid: job.work.image_id for slot, job in busy if job is not None}

    def run(
        self, works: Iterable[ImageWork], batch: str = "", check: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, ImageOutcome]]:
        """Yield (position in works, outcome) for every image as it finishes. Pulls works on demand.

        ``check`` is called about once a second, whatever the photos do; an exception from it ends the run.

        Raise EngineError when processes cannot start, or keep dying without a photo to blame.
        """
        source = enumerate(works)
        exhausted = False
        while True:
            while not exhausted and len(self._waiting) < self._size:
                number, work = next(source, (-1, None))
                if work is None:
                    exhausted = True
                else:
                    self._waiting.append(_Job(number, work))
            self._hand_out(batch)
            if exhausted and not self._waiting and not any(slot.jobs for slot in self._slots):
                if not any(slot.packed for slot in self._slots):
                    return
                self._seal()
            yield from self._receive(CHECK_S if check is not None else None)
            if check is not None:
                check()

    def start(self, images: int) -> None:
        """Start the processes that so many images need, before there is work. Does not wait until they are ready."""
        while len(self._slots) < min(self._size, images):
            self._slots.append(_WorkerSlot(Child(self._assignment)))

    def rest(self) -> None:
        """Close idle connections: a host that limits them counts them."""
        for slot in self._slots:
            slot.child.send(("rest",))

    def forget(self) -> None:
        """Close the pipes without ending the processes, in a fork: else they would run for as long as the fork does."""
        for slot in self._slots:
            slot.child.forget()

    def close(self) -> None:
        """End all processes at once; their unfinished images are lost."""
        for slot in self._slots:
            slot.child.kill()
        self._slots.clear()
        self._waiting.clear()
        self._asking.clear()

    def _seal(self) -> None:
        for slot in self._slots:
            if slot.packed and not slot.sealing:
                slot.sealing, slot.heard_at = True, monotonic()
                slot.child.send(("seal",))

    def _hand_out(self, batch: str) -> None:
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            slot = self._slot_for(job)
            if slot is None:
                self._waiting.append(job)
                continue
            slot.jobs[job.number] = job
            slot.heard_at = monotonic()
            slot.child.send(("image", job.number, job.work, batch))

    def _slot_for(self, job: _Job) -> _WorkerSlot | None:
        idle = [slot for slot in self._slots if not slot.jobs]
        if idle:
            return idle[0]
        if len(self._slots) < self._size:
            self._slots.append(_WorkerSlot(Child(self._assignment)))
            return self._slots[-1]
        if job.alone:
            return None
        free = [slot for slot in self._slots if slot.can_take]
        # The process with the fewest images, so that a slow photo delays few others.
        return min(free, key=lambda slot: len(slot.jobs)) if free else None

    def _receive(self, at_most_s: float | None) -> Iterator[tuple[int, ImageOutcome]]:
        """Wait for messages until the next deadline, read them all, then check for overdue processes."""
        by_pipe = {slot.child.pipe: slot for slot in self._slots}
        for pipe in wait(list(by_pipe), timeout=_sooner(self._patience(), at_most_s)):
            slot = by_pipe[pipe]  # type: ignore[index]
            # Read everything in the pipe first, so that a deadline is never judged by outdated messages.
            while slot in self._slots and slot.child.has_message():
                message = slot.child.receive()
                if message is None:
                    yield from self._lost(slot)
                else:
                    yield from self._handle(slot, message)
        for slot in list(self._slots):
            if slot.calls and slot.owes and monotonic() - slot.looked_at < LOOK_S:
                continue
            slot.looked_at = monotonic()
            applying = slot.applying
            if applying is not None:
                yield from self._watch(slot, applying)
            elif slot.owes and monotonic() - slot.active_at > self._limit(slot):
                yield from self._overdue(slot)

    def _patience(self) -> float | None:
        busy = [
            LOOK_S + monotonic() if slot.calls else slot.heard_at + self._limit(slot)
            for slot in self._slots
            if slot.owes
        ]
        return max(0.0, min(busy) - monotonic()) + 0.01 if busy else None

    def _limit(self, slot: _WorkerSlot) -> float:
        settings = self._assignment
        if slot.loading is not None:
            return LOAD_S
        if slot.decoding is not None:
            return settings.pictures.decode_timeout_s + slot.encode_s
        if slot.sealing:
            return SEAL_S
        return settings.fetch.timeout_s + settings.pictures.decode_timeout_s + STALL_S

    def _handle(self, slot: _WorkerSlot, message: tuple[Any, ...]) -> Iterator[tuple[int, ImageOutcome]]:
        kind = message[0]
        if kind == "broken":
            raise EngineError(f"a crop process cannot work: {message[1]}\n{message[2]}".rstrip())
        slot.heard_at = monotonic()
        if kind == "loading":
            slot.loading, slot.calls = message[1], True
        elif kind == "loaded":
            slot.loading = None
        elif kind == "said":
            log.info("%s", message[1])
        elif kind == "decoding":
            _, slot.decoding, slot.encode_s = message
        elif kind == "asks":
            slot.decoding = None
            self._asking.append((slot, message[2] - OWN_PIXELS))
            self._grant()
        elif kind == "decoded":
            self._release(slot)
        elif kind == "packed":
            slot.packed[message[1]] = slot.jobs.pop(message[1])
            slot.sealing = False  # it arrived after the seal
        elif kind == "done":
            _, number, outcome, faults = message
            job = slot.jobs.pop(number, None) or slot.packed.pop(number)
            slot.sealing = slot.sealing and bool(slot.packed)
            for fault in faults:
                log.error("image %s: %s", job.work.image_id, fault)
            self._losses = 0
            yield job.ended(outcome)

    def _grant(self) -> None:
        while self._asking and self._asking[0][1] <= self._spare:
            slot, pixels = self._asking.popleft()
            self._spare -= pixels
            slot.pixels = pixels
            slot.child.send(("go",))

    def _release(self, slot: _WorkerSlot) -> None:
        slot.decoding = None
        self._spare += slot.pixels
        slot.pixels = 0
        self._grant()

    def _drop(self, slot: _WorkerSlot) -> int:
        """Remove the process from the pool and end it. Return its exit status, negative for a signal."""
        status = slot.child.kill()
        self._slots.remove(slot)
        self._asking = deque(item for item in self._asking if item[0] is not slot)
        self._losses += 1
        if self._losses > MAX_LOSSES + self._size:
            raise EngineError(f"crop processes keep ending (status {status}): {slot.child.stderr_tail}")
        return status

    def _watch(self, slot: _WorkerSlot, applying: Applying) -> Iterator[tuple[int, ImageOutcome]]:
        """End a process whose function takes too much time or memory."""
        limits = applying.limits
        if monotonic() - applying.began > limits.timeout_s:
            self._drop(slot)
            yield from self._blame(slot, applying, "function_timeout", f"longer than {limits.timeout_s:g} s")
        elif memory_mb(slot.child.pid) > limits.memory_mb:
            self._drop(slot)
            yield from self._blame(slot, applying, "function_died", f"its process took over {limits.memory_mb} MB")

    def _blame(self, slot: _WorkerSlot, applying: Applying, code: str, why: str) -> Iterator[tuple[int, ImageOutcome]]:
        """Fail the crop in the function; of several, retry each alone. Do the process's other images again."""
        self._losses = 0
        jobs = slot.jobs | slot.packed
        for hand in applying.hands:
            job = jobs[hand.number]
            if len(applying.hands) > 1:
                job.work = job.work._replace(singly=True)
            else:
                job.failed.append(failed(hand.order, hand.box, PhotoFailure(code, f"{applying.limits.use}: {why}")))
                job.work = without(job.work, hand)
        for job in jobs.values():
            if job.work.crops:
                self._waiting.appendleft(job)
            else:
                yield job.ended(ImageOutcome([]))
        self._release(slot)

    def _overdue(self, slot: _WorkerSlot) -> Iterator[tuple[int, ImageOutcome]]:
        if slot.loading is not None:
            raise EngineError(f"the function {slot.loading} was not loaded in {LOAD_S} s")
        decoding, limit_s = slot.decoding, self._limit(slot)
        self._drop(slot)
        self._waiting.extend(slot.packed.values())
        for job in slot.jobs.values():
            if decoding is None:
                yield from self._suspect(job, "decode_hung")
            elif job.number == decoding:
                detail = f"no progress in {round(limit_s, 1):g} s"
                yield job.ended(failed_photo(job.work, PhotoFailure("decode_hung", detail)))
            else:
                self._waiting.appendleft(job)
        self._release(slot)

    def _lost(self, slot: _WorkerSlot) -> Iterator[tuple[int, ImageOutcome]]:
        status = self._drop(slot)
        applying = slot.applying
        if applying is not None and -status not in _FROM_OUTSIDE:
            yield from self._blame(slot, applying, "function_died", "its process ended")
            return
        if slot.loading is not None:
            raise EngineError(f"the function {slot.loading} ended its process (status {status}) while it was loaded")
        log.warning("a crop process ended with status %s: %s", status, slot.child.stderr_tail)
        blamed = slot.jobs.keys() if slot.decoding is None else {slot.decoding}
        self._waiting.extend(slot.packed.values())  # their open packs are lost; these images are not to blame
        code = "decoder_killed" if status == -signal.SIGKILL else "decoder_died"
        for job in slot.jobs.values():
            if job.number in blamed and -status not in _FROM_OUTSIDE:
                yield from self._suspect(job, code)
            else:
                self._waiting.appendleft(job)
        self._release(slot)

    def _suspect(self, job: _Job, code: str) -> Iterator[tuple[int, ImageOutcome]]:
        """Retry the photo alone; the second time it fails."""
        job.deaths += 1
        if job.deaths < 2:
            self._waiting.append(job)
            return
        detail = "its decoder died twice, the second time alone in its process"
        yield job.ended(failed_photo(job.work, PhotoFailure(code, detail)))


def _sooner(patience: float | None, at_most_s: float | None) -> float | None:
    """Return the shorter of two waits; None is unlimited."""
    return min((wait_s for wait_s in (patience, at_most_s) if wait_s is not None), default=None)


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
