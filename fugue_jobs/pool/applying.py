"""Runs crops through the steps of their profiles, singly or in batches across boxes and images."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.pixels import Cut, finish
from fugue_jobs.pool.board import InHand
from fugue_jobs.pool.functions import Functions, facts
from fugue_jobs.work import failed

if TYPE_CHECKING:
    from PIL import Image

    from fugue_jobs.imaging.encode import Step
    from fugue_jobs.work import ImageWork

# Bytes of pixels that may wait for a batch to fill.
_WAITING = 64_000_000
_PLAIN = frozenset((str, int, float, bool, type(None)))


class Ticket(Protocol):
    """An image in progress."""

    number: int
    work: ImageWork


T = TypeVar("T", bound=Ticket)


@dataclass(eq=False)
class _Piece(Generic[T]):
    ticket: T
    cut: Cut
    image: Image.Image
    changed: bool = False
    kept: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    at: int = 0  # index of the next step

    @property
    def steps(self) -> tuple[Step, ...]:
        assert self.cut.unfinished is not None
        return self.cut.unfinished.recipe.steps

    def keep(self) -> None:
        """Copy the pixels before the crop waits: they may be in the canvas that the next image overwrites."""
        unfinished = self.cut.unfinished
        if self.kept or self.changed or unfinished is None:
            return
        self.kept = True
        self.image = self.image.copy()
        kept = unfinished._replace(crop=unfinished.crop._replace(image=self.image))
        self.cut = self.cut._replace(unfinished=kept)

    @property
    def hand(self) -> InHand:
        return InHand(self.ticket.number, self.cut.outcome.order, self.cut.outcome.box_index)


class Applier(Generic[T]):
    """The steps of one process's crops. ``emit`` gets each crop after its last step. For one thread only."""

    def __init__(self, functions: Functions, emit: Callable[[T, Cut], None]) -> None:
        self._functions, self._emit = functions, emit
        self._waiting: dict[Step, list[_Piece[T]]] = {}

    def add(self, ticket: T, cut: Cut) -> None:
        """Add a crop. Raise EngineError when a function cannot be loaded."""
        assert cut.unfinished is not None
        self._queue(_Piece(ticket, cut, cut.unfinished.crop.image))

    def holds(self, ticket: T) -> bool:
        """Return whether crops of this image wait for a batch to fill."""
        return any(piece.ticket is ticket for pieces in self._waiting.values() for piece in pieces)

    def flush(self) -> None:
        """Run incomplete batches: no more crops come for now."""
        while self._waiting:
            step = next(iter(self._waiting))
            self._run(step, self._waiting.pop(step))

    def _queue(self, piece: _Piece[T]) -> None:
        step = piece.steps[piece.at]
        size = 1 if piece.ticket.work.singly else self._functions.batch(step)
        if size == 1:
            self._run(step, [piece])
            return
        piece.keep()
        waiting = self._waiting.setdefault(step, [])
        waiting.append(piece)
        if len(waiting) >= size or sum(4 * each.image.width * each.image.height for each in waiting) >= _WAITING:
            self._run(step, self._waiting.pop(step))

    def _run(self, step: Step, pieces: list[_Piece[T]]) -> None:
        rows = [facts(piece.ticket.work, piece.cut.outcome, piece.image) for piece in pieces]
        given = self._functions.call(step, [piece.hand for piece in pieces], [piece.image for piece in pieces], rows)
        for piece, result in zip(pieces, given, strict=True):
            if result.failure is not None:
                self._fail(piece, result.failure)
                continue
            if result.image is not None:
                piece.image, piece.changed = result.image, True
            piece.values |= result.values or {}
            piece.at += 1
            if piece.at < len(piece.steps):
                self._queue(piece)
            else:
                self._finish(piece)

    def _finish(self, piece: _Piece[T]) -> None:
        try:
            done = finish(piece.cut, piece.image if piece.changed else None)
        except PhotoFailure as failure:
            own = failure.code == "mode_unsupported"
            self._fail(piece, PhotoFailure("function_failed", f"it returns {failure.detail}") if own else failure)
        except Exception as error:  # noqa: BLE001 - a user's image can be broken in any way
            self._fail(piece, PhotoFailure("function_failed", f"its image cannot be encoded: {type(error).__name__}"))
        else:
            if piece.values:
                done = done._replace(outcome=done.outcome._replace(values=piece.values))
            self._emit(piece.ticket, done)

    def _fail(self, piece: _Piece[T], failure: PhotoFailure) -> None:
        self._emit(piece.ticket, Cut(failed(piece.cut.outcome.order, piece.cut.outcome.box_index, failure), None))


def sent_row(row: dict[str, Any]) -> dict[str, Any] | bytes:
    """Return a frame's row as it goes to a crop process: as it is, or pickled.

    Values go as they are only when they are of plain, immutable types. A mutable one could be changed through another row. A
    class that the process cannot import would end it.
    """
    return row if all(type(value) in _PLAIN for value in row.values()) else pickled_row(row)


def pickled_row(row: dict[str, Any]) -> bytes:
    """Return a frame's row, pickled for a function. Values that cannot be pickled are left out."""
    try:
        return pickle.dumps(row)
    except Exception:  # noqa: BLE001 - a value's own pickling raises anything
        return pickle.dumps({name: value for name, value in row.items() if _travels(value)})


def _travels(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
