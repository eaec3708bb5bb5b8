"""Side-cars: the files that hold the boxes of photos. From a photo's name to its side-car, and what that says of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from cropline.config.api import ApiSettings
from cropline.intake import manifest
from cropline.intake.sources.file_listing import Place
from cropline.intake.sources.files import READERS, format_of, opened
from cropline.intake.sources.formats.broken import FileError
from cropline.intake.sources.formats.documents import read_document
from cropline.intake.sources.formats.yolo import CLASS_FILES, read_boxes, read_classes

Said = dict[str, Any]
"""What a side-car says of one photo: fields of its item."""

_KEPT = 8  # parsed side-cars in memory


class Sidecars:
    """The side-cars of one source."""

    def __init__(self, api: ApiSettings, place: Place, root: str) -> None:
        self._api, self._place, self._root = api, place, root
        self._pattern = api.sidecar or ("" if api.format == "yolo" else "{stem}.json")
        self._parsed: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._classes: list[str] | None = None

    @property
    def per_photo(self) -> bool:
        """Whether each photo has its own."""
        return self._api.format == "yolo" or "{stem}" in self._pattern or "{name}" in self._pattern

    def name_of(self, photo: str) -> str:
        """Return the name of the photo's side-car."""
        folder, _, name = photo.rpartition("/")
        stem = name.rpartition(".")[0]
        if not self._pattern:
            parts = folder.split("/")
            at = max((n for n, part in enumerate(parts) if part == "images"), default=None)
            if at is not None:
                parts[at] = "labels"
            return "/".join([*parts, f"{stem}.txt"]).lstrip("/" if not folder.startswith("/") else "")
        inner = folder.removeprefix(self._root).strip("/")
        filled = self._pattern.replace("{stem}", stem).replace("{name}", name).replace("{folder}", inner)
        if self._pattern.startswith("/"):
            return _joined(self._root, filled.strip("/").replace("//", "/"))
        return _joined(folder, filled)

    def said(self, name: str, version: str, photo: str) -> Said | None:
        """Return what a side-car says of a photo, with its boxes; None when it does not name the photo.

        Raise FileError, StorageError or OSError when it cannot be read.
        """
        kind = self._api.format or format_of(name) or "json"
        if kind == "yolo":
            with closing(self._place.open(name)) as file:
                return {"boxes": read_boxes(file.read(self._api.max_page_bytes), self._names())}
        if self.per_photo and kind == "json":
            return self._own_document(name)
        if (name, version) not in self._parsed:
            self._parsed[name, version] = self._by_photo(name, kind)
            while len(self._parsed) > _KEPT:
                self._parsed.popitem(last=False)
        rows = self._parsed[name, version]
        if self.per_photo:
            return _item([row for some in rows.values() for row in some])
        found = _of_photo(rows, photo)
        return None if found is None else _item(found)

    def _own_document(self, name: str) -> Said:
        with closing(opened(self._place, name)) as file:
            document = read_document(file, self._api)
        if isinstance(document, list):
            return {"boxes": document}
        if not isinstance(document, dict):
            raise FileError("is neither a list of boxes nor an object")
        return document

    def _by_photo(self, name: str, kind: str) -> dict[str, list[Any]]:
        """Return the rows of a side-car by the photo that they name; rows that name none are under ""."""
        rows: dict[str, list[Any]] = {}
        with closing(opened(self._place, name)) as file, closing(READERS[kind](file, self._api)) as found:
            for row in found:
                rows.setdefault(_photo_in(row, self._api), []).append(row)
        if not self.per_photo and "" in rows:
            raise FileError(
                f"has {len(rows['']):,} rows that name no photo or cannot be read; look at CROPLINE_API__FIELDS__URL"
            )
        return rows

    def _names(self) -> list[str]:
        if self._classes is None:
            self._classes = next(self._class_files(), [])
        return self._classes

    def _class_files(self) -> Iterator[list[str]]:
        for folder in (self._root, _joined(self._root, "labels")):
            for name in CLASS_FILES:
                found = self._place.one(_joined(folder, name))
                if found is not None:
                    with closing(self._place.open(found.name)) as file:
                        yield read_classes(name, file.read(self._api.max_page_bytes))


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else name


def _photo_in(row: Any, api: ApiSettings) -> str:
    """Return the photo that a row names, as a path or a key; empty for none."""
    value = manifest.field_of(row, "url", api) if isinstance(row, dict) else None
    if not isinstance(value, str):
        return ""
    path = value.partition("://")[2].partition("/")[2] if "://" in value else value
    return path.removeprefix("./").strip("/")


def _of_photo(rows: dict[str, list[Any]], photo: str) -> list[Any] | None:
    """Return the rows that name a photo by its address, its path, or the end of its path."""
    parts = photo.split("/")
    ends = ("/".join(parts[at:]) for at in range(len(parts)))
    return next((rows[end] for end in ends if end in rows), None)


def _item(rows: list[Any]) -> Said:
    """Return one item of the rows of one photo: the first row's fields, and all boxes."""
    if not rows:
        return {"boxes": []}
    if len(rows) == 1 and isinstance(rows[0], dict) and "boxes" in rows[0]:
        return dict(rows[0])
    nested = [row["boxes"] for row in rows if isinstance(row, dict) and isinstance(row.get("boxes"), list)]
    boxes = [box for some in nested for box in some] if len(nested) == len(rows) else rows
    first = rows[0] if isinstance(rows[0], dict) else {}
    return {**first, "boxes": boxes}
