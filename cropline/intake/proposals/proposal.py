"""One proposed setting, and paths into JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = re.compile(r"[^a-z0-9]")


@dataclass(frozen=True)
class Proposal:
    """A value for a setting of the API group, such as ``fields.url``. ``evidence``: what it was concluded from."""

    setting: str
    value: Any
    evidence: str
    certain: bool = True


def jmespath_of(parts: Sequence[str]) -> str:
    """Return the JMESPath of nested names; a name that is no identifier is quoted."""
    return ".".join(part if _PLAIN.fullmatch(part) else f'"{part}"' for part in parts)


def key(name: str) -> str:
    """Return a name without case and separators: imageId, image_id and Image-ID are the same."""
    return _WORDS.sub("", name.lower())


def leaves(value: dict[str, Any], at: tuple[str, ...] = (), depth: int = 4) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, value) of everything in nested objects that is no object, outer ones first. Lists are values."""
    inner = []
    for name, part in value.items():
        if isinstance(part, dict) and depth > 0:
            inner.append((name, part))
        else:
            yield (*at, name), part
    for name, part in inner:
        yield from leaves(part, (*at, name), depth - 1)


def at_path(value: Any, path: Sequence[str]) -> Any:
    """Return what is at nested names; None when it is not there."""
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def number_of(value: Any) -> float | None:
    """Return a number, also one given as text; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def shown(value: Any) -> str:
    """Return a value for a line of evidence: short, and without a URL's query, which may hold a signature."""
    text = re.sub(r"\?.*", "?...", str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
