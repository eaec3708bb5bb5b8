"""User functions in a crop process: loads them once, calls them with a crop or a batch, checks results.

An exception or a wrong result fails one crop. The crops of a call are on the board (board.py), so that the parent
knows which to blame when the process hangs or dies.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from PIL import Image

from cropline.config.named_function import target_of
from cropline.core.errors import EngineError
from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.encode import Step
from fugue_jobs.pool.board import Board, InHand, Limits
from fugue_jobs.pool.lent import Lent, settle
from fugue_jobs.pool.values import checked
from fugue_jobs.work import MAX_DETAIL, CropOutcome, ImageWork

Send = Callable[[tuple[Any, ...]], None]

BATCH = 32
# The limit of printed text per crop process; the rest is dropped with a notice.
_MOST_SAID = 20_000
_FACTS = ("source", "image_id", "version", "captured_at", "store_id", "camera_id")

T = TypeVar("T")


class Facts(NamedTuple):
    """The row that a function gets with a crop: facts about image, box and crop (told), and the frame's columns."""

    told: dict[str, Any]
    columns: dict[str, Any] | bytes

    def row(self) -> dict[str, Any]:
        """Return a row that the function may change."""
        own = self.columns
        return self.told | (own if isinstance(own, dict) else pickle.loads(own))  # noqa: S301 - sent by our own parent


class Given(NamedTuple):
    """A function's result for a crop: a new image, values, or the failure."""

    image: Image.Image | None = None
    values: dict[str, Any] | None = None
    failure: PhotoFailure | None = None


class _Loaded(NamedTuple):
    call: Callable[..., Any]
    batched: bool


class Functions:
    """The functions of one process, by their steps."""

    def __init__(self, pickled: Mapping[str, bytes], board: Board, send: Send) -> None:
        self._pickled, self._board, self._send = dict(pickled), board, send
        self._loaded: dict[str, _Loaded] = {}
        self._listening = _Listening(send)

    def batch(self, step: Step) -> int:
        """Return how many crops one call takes. Raise EngineError when the function cannot be loaded."""
        return (step.batch or BATCH) if self._load(step).batched else 1

    def call(
        self, step: Step, hands: Sequence[InHand], images: Sequence[Image.Image], rows: Sequence[Facts]
    ) -> list[Given]:
        """Return the step's result for each crop, from one call or one each. Exceptions become failures."""
        loaded = self._load(step)
        if not loaded.batched:
            return [
                self._one(step, loaded, hand, image, row) for hand, image, row in zip(hands, images, rows, strict=True)
            ]
        if len(hands) > 1:
            with contextlib.suppress(BaseException):  # one crop is at fault: calling each alone shows which
                return self._many(step, loaded, hands, images, rows)
        return [self._alone(step, loaded, *each) for each in zip(hands, images, rows, strict=True)]

    def _one(self, step: Step, loaded: _Loaded, hand: InHand, image: Image.Image, row: Facts) -> Given:
        def asked(lent: list[Lent]) -> Given:
            return _read(loaded.call(lent[0], row.row()), step)

        try:
            return self._in_hand(step, [hand], [image], asked)
        except BaseException as error:  # noqa: BLE001 - a function raises anything, even sys.exit
            return _failed(step, error)

    def _alone(self, step: Step, loaded: _Loaded, hand: InHand, image: Image.Image, row: Facts) -> Given:
        try:
            return self._many(step, loaded, [hand], [image], [row])[0]
        except BaseException as error:  # noqa: BLE001 - a function raises anything, even sys.exit
            return _failed(step, error)

    def _many(
        self, step: Step, loaded: _Loaded, hands: Sequence[InHand], images: Sequence[Image.Image], rows: Sequence[Facts]
    ) -> list[Given]:
        def asked(lent: list[Lent]) -> list[Given]:
            given = list(loaded.call([*lent], [row.row() for row in rows]))
            if len(given) != len(hands):
                raise TypeError(f"it returns {len(given)} results for {len(hands)} crops")
            return [_read(result, step) for result in given]

        return self._in_hand(step, hands, images, asked)

    def _in_hand(
        self, step: Step, hands: Sequence[InHand], images: Sequence[Image.Image], asked: Callable[[list[Lent]], T]
    ) -> T:
        """Return what ``asked`` returns for the images. The crops are on the board meanwhile, and prints are logged."""
        lent = [Lent(image) for image in images]
        self._board.begin(hands, Limits(step.timeout_s, step.memory_mb, step.use))
        try:
            with self._listening.to(step.use):
                return asked(lent)
        finally:
            settle(lent)
            self._board.end()

    def _load(self, step: Step) -> _Loaded:
        if step.use not in self._loaded:
            self._send(("loading", step.use))
            try:
                with self._listening.to(step.use):
                    found = self._find(step.use)
                    call = found() if isinstance(found, type) else found
            except BaseException as error:  # noqa: BLE001 - a module or class raises anything
                raise EngineError(f"the function {step.use} cannot be loaded: {_line(error)}") from None
            finally:
                self._send(("loaded",))
            if not callable(call):
                raise EngineError(f"the function {step.use} cannot be called: it is a {type(call).__name__}")
            self._loaded[step.use] = _Loaded(call, isinstance(found, type))
        return self._loaded[step.use]

    def _find(self, use: str) -> Any:
        if use in self._pickled:
            return pickle.loads(self._pickled[use])  # noqa: S301 - sent by our own parent
        module, _, name = target_of(use).partition(":")
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found


class _Listening:
    """Sends what functions print to the parent's log, up to a limit. One for the process: one for each call cost more."""

    def __init__(self, send: Send) -> None:
        self._send, self._printed, self._use = send, _Bounded(_MOST_SAID), ""
        self._streams = sys.stdout, sys.stderr

    def to(self, use: str) -> _Listening:
        """Return the context of one call of this function."""
        self._use = use
        return self

    def __enter__(self) -> None:
        self._streams = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self._printed

    def __exit__(self, *_: object) -> None:
        sys.stdout, sys.stderr = self._streams
        text = self._printed.take()
        if text:
            more = "" if self._printed.room else " (the rest is not logged)"
            self._send(("said", f"{self._use}: {text}{more}"))


class _Bounded(io.StringIO):
    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, text: str) -> int:
        kept = text[: self.room]
        self.room -= len(kept)
        super().write(kept)
        return len(text)

    def take(self) -> str:
        """Return what was written since the last time, and forget it."""
        text = self.getvalue().strip()
        self.seek(0)
        self.truncate()
        return text

    def close(self) -> None:
        """Stay open: a function that closes its output does not close that of the next."""


def facts(work: ImageWork, outcome: CropOutcome, image: Image.Image) -> Facts:
    """Return the facts for a function about a crop, whose pixels are ``image``."""
    box = work.boxes[outcome.box_index]
    of_image = {name: getattr(work, name) for name in _FACTS} if work.source else {}
    of_crop = {
        "box_index": outcome.box_index,
        "profile": work.orders[outcome.order].profile,
        "left": outcome.left,
        "top": outcome.top,
        "right": outcome.right,
        "bottom": outcome.bottom,
        "width": image.width,
        "height": image.height,
    }
    return Facts(of_image | box._asdict() | of_crop, work.rows[outcome.box_index] if work.rows else {})


def _read(result: Any, step: Step) -> Given:
    image, values = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if isinstance(image, Mapping) and values is None:
        image, values = None, image
    if image is None and values is None:
        raise TypeError("it returns neither an image nor a dict")
    if image is not None:
        if not isinstance(image, Image.Image):
            raise TypeError(f"it returns a {type(image).__name__[:40]}, not an image or a dict")
        image.load()
        if min(image.size) < 1 or image.width * image.height > 100_000_000:
            raise ValueError(f"it returns an image of {image.width} x {image.height} px")
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"it returns a {type(values).__name__[:40]} beside the image, not a dict")
    return Given(image, None if values is None else checked(values, step.columns))


def _failed(step: Step, error: BaseException) -> Given:
    return Given(failure=PhotoFailure("function_failed", f"{step.use}: {_line(error)}"[:MAX_DETAIL]))


def _line(error: BaseException) -> str:
    """Return the kind of error. Only texts of our own errors are included: others may quote the picture or the row."""
    ours = isinstance(error, TypeError | ValueError) and _raised_here(error)
    if ours:
        return f"{type(error).__name__}: {error}"
    missing = isinstance(error, ImportError | AttributeError) and error.name
    return f"{type(error).__name__}: {missing}" if missing else type(error).__name__


def _raised_here(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") in (__name__, "fugue_jobs.pool.values")
