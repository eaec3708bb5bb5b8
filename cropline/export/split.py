"""Divides the chosen crops into parts, such as train and val: all crops of a photo go into one part.

A hash of the group and the seed decides, so a group stays in its part when other photos come.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa

from cropline.core.errors import ExportError
from cropline.core.scrub import one_line
from cropline.export.choose import Chosen

_PART = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,40})=([0-9.]{1,12})", re.ASCII)
_COLUMNS = ("source", "image_id")
_Photo = tuple[str, str]


@dataclass(frozen=True)
class Split:
    """``shares``: part -> its share; together 1. ``by``: the column whose values stay together; None: the photo."""

    shares: dict[str, float]
    by: str | None = None


def read_split(text: str, by: str | None) -> Split:
    """Return the split of ``train=0.8,val=0.2``. Raise ExportError when it is invalid."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        share = _number(found[2]) if found else 0
        if not found or not 0 < share <= 1:
            raise ExportError(f"--split: {one_line(part, 60)!r} is not NAME=SHARE with a share from 0 to 1")
        if found[1] in shares:
            raise ExportError(f"--split: {found[1]} is there twice")
        shares[found[1]] = share
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ExportError(f"--split: the shares add up to {sum(shares.values()):g}, not 1")
    return Split(shares, by)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0


def divide(chosen: Chosen, split: Split, seed: int) -> int:
    """Write table ``parts``: the part of each photo (source, image_id).

    Without ``by``, photos of the same bytes stay together, also under several ids. With it, return how many photos have
    the same bytes as a photo in another part.

    Raise ExportError when ``by`` is no column, or has several values in one photo.
    """
    rows = list(_photos(chosen, split.by))
    group_of = _by_bytes(rows) if split.by is None else _by_value(rows, split.by)
    parts = {photo: _part(group, split.shares, seed) for photo, group in group_of.items()}
    columns = {name: [photo[at] for photo in parts] for at, name in enumerate(_COLUMNS)}
    table = pa.table(columns | {"part": list(parts.values())}, schema=_SCHEMA)
    chosen.database.register("told", table)
    chosen.database.execute("CREATE TABLE parts AS SELECT * FROM told")
    chosen.database.unregister("told")
    return _in_several_parts(rows, parts)


_SCHEMA = pa.schema([(name, pa.string()) for name in (*_COLUMNS, "part")])


def _photos(chosen: Chosen, by: str | None) -> Iterator[tuple[_Photo, str | None, Any]]:
    """Yield (photo, SHA-256 of its bytes, value of ``by``) of every photo, in a fixed order."""
    columns = [name for (name, *_) in chosen.fetch("DESCRIBE chosen")]
    if by is not None and by not in columns:
        raise ExportError(f"--by {one_line(by, 60)}: the catalogue has no such column; it has {', '.join(columns)}")
    value = "NULL" if by is None else f'CAST("{by}" AS VARCHAR)'
    query = f"SELECT DISTINCT source, image_id, image_sha256, {value} FROM chosen ORDER BY ALL"  # noqa: S608 - a column of ours
    for source, image_id, digest, group in chosen.fetch(query):
        yield (source, image_id), digest, group


def _by_value(rows: list[tuple[_Photo, str | None, Any]], by: str) -> dict[_Photo, str]:
    found: dict[_Photo, str] = {}
    for photo, _, value in rows:
        group = "" if value is None else f"={value}"
        if found.setdefault(photo, group) != group:
            raise ExportError(
                f"--by {by}: photo {one_line(photo[1], 80)} has several values of it, so its crops would be in several parts"
            )
    return found


def _by_bytes(rows: list[tuple[_Photo, str | None, Any]]) -> dict[_Photo, str]:
    """Return the group of each photo: photos of the same bytes are together."""
    leader: dict[str, str] = {}

    def first(name: str) -> str:
        while (above := leader.setdefault(name, name)) != name:
            leader[name] = name = leader.setdefault(above, above)
        return name

    for photo, digest, _ in rows:
        if digest is not None:
            # A digest leads: then the group keeps its name when a photo of the same bytes comes.
            one, other = sorted((first(_name(photo)), first(f"={digest}")), key=lambda name: (name[0] != "=", name))
            leader[other] = one
    return {photo: first(_name(photo)) for photo, _, _ in rows}


def _name(photo: _Photo) -> str:
    """Return a text that no other photo and no digest has."""
    return f"{len(photo[0])}:{photo[0]}{photo[1]}"


def _part(group: str, shares: dict[str, float], seed: int) -> str:
    place = int.from_bytes(sha256(f"{seed}:{group}".encode(errors="surrogatepass")).digest()[:8], "big") / 2**64
    end = 0.0
    for name, share in shares.items():
        end += share
        if place < end:
            return name
    return name


def _in_several_parts(rows: list[tuple[_Photo, str | None, Any]], parts: dict[_Photo, str]) -> int:
    of_bytes: dict[str, set[str]] = {}
    for photo, digest, _ in rows:
        if digest is not None:
            of_bytes.setdefault(digest, set()).add(parts[photo])
    return sum(digest is not None and len(of_bytes[digest]) > 1 for _, digest, _ in rows)
