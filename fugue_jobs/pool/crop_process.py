"""One crop process, ``python -m fugue_jobs.pool.crop_process PIPE BOARD``: fetches, decodes, cuts and stores images.

Three stages overlap, each in its own threads: fetching, decoding (one photo at a time), storing. The parent
restarts a process that hangs or dies, so this code does not guard against a bad decoder. To start fast, it
imports nothing slow (Arrow, pandas, Prefect, the settings). It ends when the parent's end of the pipe closes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from cropline.core.errors import CroplineError, EngineError
from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.local_images import local_image
from fugue_jobs.imaging.canvas import Canvas
from fugue_jobs.imaging.decode import Photo, open_photo
from fugue_jobs.imaging.encode import longest_s, read_recipe
from fugue_jobs.imaging.photo_hash import PhotoHash
from fugue_jobs.imaging.pixels import Cut, cut
from fugue_jobs.pool.applying import Applier
from fugue_jobs.pool.assignment import OWN_PIXELS
from fugue_jobs.pool.board import Board
from fugue_jobs.pool.functions import Functions
from fugue_jobs.pool.packing import Packer
from fugue_jobs.pool.storing import CropsReturned, CropStore
from fugue_jobs.work import CropOutcome, ImageOutcome, ImageWork, failed, failed_photo

if TYPE_CHECKING:
    from fugue_jobs.fetching.answers import Photo as FetchedPhoto
    from fugue_jobs.fetching.fetch import Fetcher
    from fugue_jobs.pool.assignment import Assignment

FETCHERS = 3
BYTES_FETCHED = 24_000_000  # photos that wait for decoding
BYTES_CUT = 16_000_000  # crops that wait to be stored
PROGRESS_S = 0.5
ENCODE_SLACK = 10  # a crop may take so much longer on a slower or overloaded machine than in our table


def longest_encode_s(photo: Photo, work: ImageWork) -> float:
    """Return the seconds that the slowest encoder may take for a crop of the whole photo; 0 for less than one."""
    seconds = 0.0
    for order in work.orders:
        with contextlib.suppress(PhotoFailure):
            seconds = max(seconds, ENCODE_SLACK * longest_s(read_recipe(order.recipe), photo.pixels))
    return seconds if seconds >= 1 else 0.0


class ByteBudget:
    """A bound on bytes in flight. One item is always admitted when none is in flight, however large it is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = threading.Condition()

    def acquire(self, size: int) -> None:
        """Wait until there is room, then reserve it."""
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + size <= self._limit)
            self._held += size

    def release(self, size: int) -> None:
        """Release a reservation."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()


class _Job:
    """One image in the stages; ``finish`` is called once, when its last crop is stored."""

    def __init__(self, number: int, work: ImageWork, batch: str, finish: Callable[[_Job], None]) -> None:
        self.number = number
        self.work = work
        self.batch = batch
        self.crops: list[CropOutcome] = []
        self.facts: dict[str, Any] = {}
        self.failure: PhotoFailure | None = None
        self.faults: list[str] = []
        self._open = 1  # the decoding counts as one; each crop in progress adds one
        self._lock = threading.Lock()
        self._finish = finish

    def begin(self) -> None:
        with self._lock:
            self._open += 1

    def end(self, crop: CropOutcome | None = None) -> None:
        with self._lock:
            if crop is not None:
                self.crops.append(crop)
            self._open -= 1
            last = self._open == 0
        if last:
            self._finish(self)

    def outcome(self) -> ImageOutcome:
        if self.failure is not None:
            return failed_photo(self.work, self.failure)._replace(**self.facts)
        return ImageOutcome(sorted(self.crops, key=lambda crop: crop[:2]), **self.facts)


class Stages:
    """The threads of one process and the queues between them."""

    def __init__(
        self, assignment: Assignment, fetcher: Fetcher, board: Board, send: Callable[[tuple[Any, ...]], None]
    ) -> None:
        self._limits = assignment.pictures
        self._fetcher = fetcher
        self._files, self._max_bytes = assignment.files, assignment.fetch.max_bytes
        self._store = CropsReturned() if assignment.store is None else CropStore(assignment.store)
        self._packer = Packer(assignment.store, assignment.packed)
        self._send = send
        self._applier = Applier(Functions(dict(assignment.functions), board, send), self._emit)
        self._packed: set[int] = set()
        self._allowed = threading.Semaphore(0)
        self._to_fetch: SimpleQueue[_Job] = SimpleQueue()
        self._to_decode: SimpleQueue[tuple[_Job, FetchedPhoto] | None] = SimpleQueue()
        self._to_store: SimpleQueue[tuple[_Job, Cut]] = SimpleQueue()
        self._fetched = ByteBudget(BYTES_FETCHED)
        self._cut = ByteBudget(BYTES_CUT)
        self._canvas = Canvas()
        self._reported_at = self._encode_s = 0.0
        self._start([self._fetch] * FETCHERS + [self._decode] + [self._put] * self._store.concurrency)

    def take(self, number: int, work: ImageWork, batch: str) -> None:
        """Start one image; ``done`` is sent when all of it is stored or has failed."""
        self._to_fetch.put(_Job(number, work, batch, self._done))

    def seal(self) -> None:
        """Run incomplete batches and store open packs: no more images come for now."""
        self._to_decode.put(None)

    def rest(self) -> None:
        """Close idle connections."""
        self._fetcher.close()

    def allow(self) -> None:
        """Let the large photo be decoded: the parent's answer to ``asks``."""
        self._allowed.release()

    def _start(self, loops: list[Callable[[], None]]) -> None:
        for loop in loops:
            threading.Thread(target=loop, name=loop.__name__, daemon=True).start()

    def _done(self, job: _Job) -> None:
        self._send(("done", job.number, job.outcome(), job.faults))

    def _fetch(self) -> None:
        while True:
            job = self._to_fetch.get()
            with self._classified(job) as step:
                photo = local_image(job.work, self._files, self._max_bytes) or self._fetcher.fetch(
                    job.work.url,
                    expected_bytes=job.work.expected_bytes,
                    expected_sha256=job.work.expected_sha256,
                )
                if not job.work.source:
                    job.work = job.work._replace(image_id=photo.sha256, data=None)
                self._fetched.acquire(len(photo.data))
                self._to_decode.put((job, photo))
                step.passed_on = True

    def _decode(self) -> None:
        while True:
            waiting = self._to_decode.get()
            if waiting is None:
                self._seal()
                continue
            job, fetched = waiting
            size = len(fetched.data)
            job.facts = {"sha256": fetched.sha256, "bytes": size}
            with self._classified(job):
                self._cut_all(job, fetched.data)
            del fetched, waiting
            self._fetched.release(size)

    def _seal(self) -> None:
        try:
            self._applier.flush()
        except EngineError as error:
            self._send(("broken", str(error), ""))
        self._packer.seal_all()

    def _cut_all(self, job: _Job, data: bytes) -> None:
        self._report(job, 0.0)
        try:
            photo = open_photo(data, self._limits)
            encode_s = longest_encode_s(photo, job.work)
            if photo.pixels > OWN_PIXELS:
                self._send(("asks", job.number, photo.pixels))
                self._allowed.acquire()
                self._report(job, 0.0)
            photo_hash = PhotoHash(job.work)

            def progress() -> None:
                self._progress(job, encode_s if photo.scale else 0.0)

            for piece in cut(photo, job.work, self._limits, progress, self._canvas):
                job.facts["width"], job.facts["height"] = photo.upright_size
                job.facts["decoder"] = photo.decoder
                photo_hash.add(piece.outcome, piece.sample, photo.upright_size)
                job.begin()
                if piece.unfinished is None:
                    self._emit(job, piece)
                else:
                    self._applier.add(job, piece)
            job.facts["phash"] = photo_hash.hash()
        finally:
            self._send(("decoded", job.number))
            # Its crops finish later, with their pack or batch. The parent can send the next photo now.
            if job.number in self._packed or self._applier.holds(job):
                self._send(("packed", job.number))
            self._packed.clear()

    def _emit(self, job: _Job, piece: Cut) -> None:
        if piece.data is None:
            job.end(piece.outcome)
        elif self._packer.takes(job.work.orders[piece.outcome.order].profile):
            self._packed.add(job.number)
            self._packer.add(job.work, job.batch, piece, job.end)
        elif self._store.concurrency == 0:
            self._put_one(job, piece)
        else:
            self._cut.acquire(len(piece.data))
            self._to_store.put((job, piece))

    def _progress(self, job: _Job, encode_s: float) -> None:
        if monotonic() - self._reported_at > PROGRESS_S or encode_s != self._encode_s:
            self._report(job, encode_s)

    def _report(self, job: _Job, encode_s: float) -> None:
        """Tell the parent that this photo is decoded, or one of its crops encoded, which may take so much longer."""
        self._reported_at, self._encode_s = monotonic(), encode_s
        self._send(("decoding", job.number, encode_s))

    def _put(self) -> None:
        while True:
            job, piece = self._to_store.get()
            self._put_one(job, piece)
            self._cut.release(len(piece.data or b""))

    def _put_one(self, job: _Job, piece: Cut) -> None:
        outcome = piece.outcome
        try:
            outcome = self._store.put(job.work, job.batch, outcome, piece.data or b"")
        except PhotoFailure as failure:
            outcome = failed(outcome.order, outcome.box_index, failure)
        except Exception as error:  # noqa: BLE001 - reported as internal_error with its traceback
            outcome = failed(outcome.order, outcome.box_index, _unexpected(job, error))
        job.end(outcome)

    @contextlib.contextmanager
    def _classified(self, job: _Job) -> Iterator[_Step]:
        """Turn a stage's exception into the image's failure. The image ends here unless the stage passed it on."""
        step = _Step()
        try:
            yield step
        except EngineError as error:
            self._send(("broken", str(error), ""))
        except PhotoFailure as failure:
            # A new failure: the original's traceback keeps the photo's pixels alive.
            job.failure = PhotoFailure(failure.code, failure.detail, retry_after_s=failure.retry_after_s)
        except Exception as error:  # noqa: BLE001 - reported as internal_error with its traceback
            job.failure = _unexpected(job, error)
        if not step.passed_on:
            job.end()


class _Step:
    passed_on = False


def _unexpected(job: _Job, error: Exception) -> PhotoFailure:
    """Return internal_error. The parent logs the traceback without the message, which may hold secrets."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    job.faults.append(f"{type(error).__name__}\n{frames}")
    return PhotoFailure("internal_error", type(error).__name__)


def serve(pipe: Connection, board: Board) -> None:
    """Read work from the pipe until the parent closes it."""
    lock = threading.Lock()

    def send(message: tuple[Any, ...]) -> None:
        with lock:
            pipe.send(message)

    try:
        from fugue_jobs.fetching.fetch import Fetcher

        assignment: Assignment = pipe.recv()
        stages = Stages(assignment, Fetcher(assignment.fetch, assignment.store), board, send)
    except EOFError:
        return
    except CroplineError as error:
        send(("broken", str(error), ""))
        return
    except Exception as error:  # noqa: BLE001 - the parent raises an EngineError without the message
        send(("broken", type(error).__name__, "".join(traceback.format_tb(error.__traceback__))))
        return
    send(("ready",))
    while True:
        try:
            message = pipe.recv()
        except (EOFError, ConnectionError):
            return
        if message[0] == "image":
            stages.take(message[1], message[2], message[3])
        elif message[0] == "seal":
            stages.seal()
        elif message[0] == "rest":
            stages.rest()
        else:
            stages.allow()


def main() -> None:
    """Run the process: no output, Ctrl-C ignored (the parent decides), ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    try:
        serve(Connection(int(sys.argv[1])), Board(int(sys.argv[2])))
    finally:
        # Not sys.exit: a thread inside a decoder must not keep the process alive.
        os._exit(0)


if __name__ == "__main__":
    main()
