"""Spans of a run: what took how long, for a trace. Without a collector they cost nothing and import nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Value = str | int | float | bool | None


class Span(Protocol):
    """A part of a run that is going on."""

    def note(self, **values: Value) -> None:
        """Add attributes; None is left out."""


class Spans(Protocol):
    """The spans of one run."""

    @property
    def trace_id(self) -> str:
        """32 hex digits; empty when there is no trace."""

    def span(self, name: str, **values: Value) -> AbstractContextManager[Span]:
        """Return a context manager: a part of the run, below the one that is open in this context."""

    def close(self) -> str | None:
        """Send what is left, within the settings' time. Return why spans were lost, or None."""


class _NoSpan:
    def note(self, **values: Value) -> None:
        """Nothing."""


class NoSpans:
    """No collector is set."""

    trace_id = ""

    @contextmanager
    def span(self, name: str, **values: Value) -> Iterator[Span]:  # noqa: ARG002
        yield _NO_SPAN

    def close(self) -> str | None:
        return None


_NO_SPAN = _NoSpan()
NO_SPANS = NoSpans()
