"""The photos of exported crops, as files. The caller brings the function that fetches and writes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cropline.core.keys import image_key, safe_name
from cropline.export.choose import Chosen

Photo = tuple[str, str, str]
"""Source, image id and version ("" when it has none)."""


@dataclass(frozen=True)
class PhotoOfCrops:
    """A photo, and where it was announced. ``sha256``: of the bytes that the crops were cut from."""

    source: str
    image_id: str
    version: str
    sha256: str | None
    manifest: str
    manifest_row: int

    @property
    def photo(self) -> Photo:
        return self.source, self.image_id, self.version


@dataclass(frozen=True)
class PhotoFile:
    """The upright photo as a file below the folder, or ``why`` there is none (scrubbed). Sizes in px."""

    name: str | None
    width: int | None
    height: int | None
    why: str | None


CutPhotos = Callable[[Sequence[PhotoOfCrops], Path], Iterator[PhotoFile]]
"""Writes photos into a folder and yields one PhotoFile per photo, in their order."""


@dataclass(frozen=True)
class SavedPhotos:
    """``names``: photo -> its file below the export's folder. ``missing``: photos that could not be had, each with why."""

    names: dict[Photo, str]
    missing: dict[Photo, str]


def save_photos(chosen: Chosen, part: str | None, cut: CutPhotos, out: Path) -> SavedPhotos:
    """Write the photos of a part's crops to ``out/photos``."""
    wanted = _photos(chosen, part)
    saved = SavedPhotos({}, {})
    unfinished = out / "photos.unfinished"
    for photo, file in zip(wanted, cut(wanted, unfinished), strict=True):
        if file.name is None:
            saved.missing[photo.photo] = file.why or "it was not written"
            continue
        extension = file.name.rpartition(".")[2]
        name = f"photos/{image_key(photo.source, photo.image_id)}/{safe_name(photo.version)}.{extension}"
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (unfinished / file.name).rename(out / name)
        saved.names[photo.photo] = name
    shutil.rmtree(unfinished, ignore_errors=True)
    return saved


def _photos(chosen: Chosen, part: str | None) -> list[PhotoOfCrops]:
    """Return each photo once, with the newest manifest that its rows name."""
    rows = (
        "chosen" if part is None else "(SELECT chosen.* FROM chosen JOIN parts USING (source, image_id) WHERE part = ?)"
    )
    found = chosen.fetch(
        "SELECT source, image_id, coalesce(version, ''), max(image_sha256), "  # noqa: S608 - our own text
        "unnest(max(struct_pack(at := committed_at, manifest, manifest_row))) "
        f"FROM {rows} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        [] if part is None else [part],
    )
    return [
        PhotoOfCrops(source, image_id, version, sha256, key, row)
        for source, image_id, version, sha256, _, key, row in found
    ]
