"""Where the items of a page are: the list of objects that hold a photo's address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cropline.intake.proposals.proposal import Proposal, key, leaves

_PICTURE = re.compile(r"\.(jpe?g|png|webp|tiff?|bmp|gif|avif|heic)([?#].*)?$", re.IGNORECASE)
_ADDRESS = re.compile(r"^(https?|s3|gs|az|abfss?|file)://", re.IGNORECASE)
_URL_NAMES = ("url", "imageurl", "imgurl", "photourl", "pictureurl", "downloadurl", "fileurl", "href", "src", "file", "photo",
              "image", "picture", "path", "uri", "filename", "link", "key")  # fmt: skip
_MOST_DEPTH = 6


@dataclass(frozen=True)
class Found:
    """Items, each with the object around it as ``parent`` when the listing is nested, and their JSONPath."""

    selector: str
    items: list[dict[str, Any]]


def photo_path(item: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the path of the photo's address in an item: an address by a usual name, else any that looks like a picture."""
    found = []
    for path, value in leaves(item):
        if not isinstance(value, str) or path[0] == "parent":
            continue
        named = key(path[-1]) in _URL_NAMES
        picture, address = bool(_PICTURE.search(value)), bool(_ADDRESS.match(value))
        if (picture and (address or named)) or (address and named):
            name = _URL_NAMES.index(key(path[-1])) if named else len(_URL_NAMES)
            found.append(((not picture, not address, name, len(path)), path))
    return min(found)[1] if found else None


def find_items(body: Any) -> tuple[Found | None, Proposal | None]:
    """Return the items and the proposed selector; None when no list of the page has objects with a photo's address."""
    candidates = [one for one in _lists(body, "", 0, None) if one.items]
    with_photo = [one for one in candidates if photo_path(one.items[0]) is not None]
    if not with_photo:
        return None, None
    best = max(
        with_photo, key=lambda one: (sum(photo_path(item) is not None for item in one.items), one.selector.count("[*]"))
    )
    path = photo_path(best.items[0]) or ()
    others = [one.selector for one in with_photo if one is not best]
    evidence = f"{len(best.items)} objects with an address of a photo, {'.'.join(path)}"
    if others:
        evidence += f"; also: {', '.join(others)}"
    return best, Proposal("data_selector", best.selector, evidence, not others)


def other_lists(body: Any) -> list[str]:
    """Return the paths of the lists of objects in a page, for a message."""
    return [one.selector for one in _lists(body, "", 0, None) if one.items]


def _lists(value: Any, path: str, depth: int, parent: Any) -> Iterator[Found]:
    if depth > _MOST_DEPTH:
        return
    if isinstance(value, list):
        objects = [part for part in value if isinstance(part, dict)]
        yield Found(path or "$", [one if parent is None else one | {"parent": parent} for one in objects])
        inner: dict[str, list[dict[str, Any]]] = {}
        for one in objects:
            for name, part in one.items():
                if isinstance(part, list):
                    around = {k: v for k, v in one.items() if not isinstance(v, list)}
                    around |= {"parent": parent} if parent is not None else {}
                    inner.setdefault(name, []).extend(
                        part_ | {"parent": around} for part_ in part if isinstance(part_, dict)
                    )
        for name, parts in inner.items():
            if parts and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                yield Found(f"{path or '$'}[*].{name}[*]", parts)
    elif isinstance(value, dict):
        for name, part in value.items():
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                yield from _lists(part, f"{path}.{name}" if path else name, depth + 1, parent)
