"""User functions in a crop process: loads them once, calls them with a crop or a batch, checks results.

An exception or a wrong result fails one crop. The crops of a call are on the board (board.py), so that the parent
knows which to blame when the process hangs or dies.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from PIL import Image

from cropline.config.steps import target_of
from cropline.core.errors import EngineError
from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.encode import Step
from fugue_jobs.pool.board import Board, InHand
from fugue_jobs.pool.values import checked
from fugue_jobs.work import MAX_DETAIL, CropOutcome, ImageWork

Send = Callable[[tuple[Any, ...]], None]

BATCH = 32
# The limit of printed text per crop process; the rest is dropped with a notice.
_MOST_SAID = 20_000
_FACTS = ("source", "image_id", "version", "captured_at", "store_id", "camera_id")
_OUTCOME = ("left", "top", "right", "bottom", "width", "height")


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
        self._said = 0

    def batch(self, step: Step) -> int:
        """Return how many crops one call takes. Raise EngineError when the function cannot be loaded."""
        return (step.batch or BATCH) if self._load(step).batched else 1

    def call(
        self, step: Step, hands: Sequence[InHand], images: Sequence[Image.Image], rows: Sequence[Any]
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

    def _one(self, step: Step, loaded: _Loaded, hand: InHand, image: Image.Image, row: Any) -> Given:
        try:
            with self._told(step, [hand]):
                # A copy: other profiles may share the crop, and a function may draw on it.
                return _read(loaded.call(image.copy(), _row(row)), step)
        except BaseException as error:  # noqa: BLE001 - a function raises anything, even sys.exit
            return _failed(step, error)

    def _alone(self, step: Step, loaded: _Loaded, hand: InHand, image: Image.Image, row: Any) -> Given:
        try:
            return self._many(step, loaded, [hand], [image], [row])[0]
        except BaseException as error:  # noqa: BLE001 - a function raises anything, even sys.exit
            return _failed(step, error)

    def _many(
        self, step: Step, loaded: _Loaded, hands: Sequence[InHand], images: Sequence[Image.Image], rows: Sequence[Any]
    ) -> list[Given]:
        with self._told(step, hands):
            given = list(loaded.call([image.copy() for image in images], [_row(row) for row in rows]))
            if len(given) != len(hands):
                raise TypeError(f"it returns {len(given)} results for {len(hands)} crops")
            return [_read(result, step) for result in given]

    @contextlib.contextmanager
    def _told(self, step: Step, hands: Sequence[InHand]) -> Iterator[None]:
        self._board.begin(tuple(hands), step.timeout_s, step.memory_mb, step.use)
        try:
            with self._heard(step):
                yield
        finally:
            self._board.end()

    @contextlib.contextmanager
    def _heard(self, step: Step) -> Iterator[None]:
        """Send what the function prints to the parent's log, up to a limit."""
        said = _Bounded(_MOST_SAID - self._said)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                yield
        finally:
            text = said.getvalue()
            if text.strip():
                self._said += len(text)
                more = " (the rest is not logged)" if self._said >= _MOST_SAID else ""
                self._send(("said", f"{step.use}: {text.strip()}{more}"))

    def _load(self, step: Step) -> _Loaded:
        if step.use not in self._loaded:
            self._send(("loading", step.use))
            try:
                with self._heard(step):
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


class _Bounded(io.StringIO):
    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, text: str) -> int:
        kept = text[: max(self._room, 0)]
        self._room -= len(kept)
        super().write(kept)
        return len(text)


def facts(work: ImageWork, outcome: CropOutcome) -> dict[str, Any]:
    """Return the row for a function: facts of the image, the box and the crop, plus the frame's pickled columns."""
    box = work.boxes[outcome.box_index]
    told = {name: getattr(work, name) for name in _FACTS} if work.source else {}
    told |= box._asdict() | {"box_index": outcome.box_index, "profile": work.orders[outcome.order].profile}
    told |= {name: getattr(outcome, name) for name in _OUTCOME if name not in ("width", "height")}
    return told | ({"": work.rows[outcome.box_index]} if work.rows else {})


def _row(told: Mapping[str, Any]) -> dict[str, Any]:
    row = dict(told)
    own = row.pop("", None)
    return row | pickle.loads(own) if own is not None else row  # noqa: S301 - sent by our own parent


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
