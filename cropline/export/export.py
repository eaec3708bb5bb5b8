"""Exports chosen crops to a folder: reads one range per crop, several at once, and writes one of the formats.

The folder appears when it is complete. Until then its name says that it is unfinished.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.catalogue import Catalogue
from cropline.catalogue.crop_files import read_crop
from cropline.core.errors import ExportError
from cropline.export import formats
from cropline.export.choose import Choice, Chosen, choose
from cropline.export.coco import category_ids, coco, write_categories
from cropline.export.crops import Crop, Write, is_told
from cropline.export.photos import CutPhotos, Photo, SavedPhotos, save_photos
from cropline.export.record import PartCounts, write_record
from cropline.export.split import Split, divide

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

_PROCESS = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)  # a process id
_READS_AT_ONCE = 16
_AHEAD = 64  # crops in memory


@dataclass(frozen=True)
class Layout:
    """How the chosen crops are written.

    ``kind``: one of formats.FORMATS. ``categories``: coco: a file with the ids of labels, which gets those of new
    labels. ``cut_photos``: coco: writes the photos; None: the crops are COCO's images.
    """

    kind: str = "folder"
    split: Split | None = None
    categories: Path | None = None
    cut_photos: CutPhotos | None = None


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    ``no_numbers``: facts that are null because they were NaN or infinite. ``parts``: "" or the name of each part of
    the split -> its counts. ``missing``: photos that could not be had, each with why; their crops are left out.
    ``same_bytes``: photos whose bytes are in several parts of the split under different ids.
    """

    folder: Path
    version: int
    parts: dict[str, PartCounts] = field(default_factory=dict)
    missing: dict[Photo, str] = field(default_factory=dict)
    same_bytes: int = 0

    @property
    def crops(self) -> int:
        return sum(part.crops for part in self.parts.values())

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts.values())

    @property
    def no_numbers(self) -> int:
        return sum(part.no_numbers for part in self.parts.values())


def export(spec: StoreSpec, out: Path, choice: Choice, layout: Layout) -> Exported:
    """Write the chosen crops to a new folder, with export.json, which tells how to repeat it.

    The same version of the catalogue and the same options produce the same files. Raise ExportError when the folder is
    not empty or an option is invalid, StorageError when a crop cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists and is not empty: name a new folder")
    unfinished = out.with_name(f"{_unfinished(out)}{os.getpid()}")
    try:
        _delete_leftovers(out)
        unfinished.mkdir(parents=True)
        with choose(spec, choice) as chosen:
            done = _write(spec, chosen, choice, layout, unfinished, out)
            write_record(unfinished, spec, choice, layout.kind, layout.split, chosen, done.parts, done.missing)
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error.strerror or type(error).__name__}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return done


def _write(spec: StoreSpec, chosen: Chosen, choice: Choice, layout: Layout, unfinished: Path, out: Path) -> Exported:
    if layout.kind == "coco" and len(chosen.profiles) > 1:
        raise ExportError(
            f"COCO has one annotation per box, and these crops are of the profiles {', '.join(chosen.profiles)}: name one with --profile"
        )
    ids = category_ids(_labels(spec, chosen), layout.categories) if layout.kind == "coco" else {}
    same_bytes = divide(chosen, layout.split, choice.seed) if layout.split else 0
    done = Exported(out, chosen.version, same_bytes=same_bytes)
    for part in layout.split.shares if layout.split else (None,):
        folder = unfinished / part if part else unfinished
        folder.mkdir(exist_ok=True)
        photos = save_photos(chosen, part, layout.cut_photos, folder) if layout.cut_photos else None
        counts = done.parts[part or ""] = PartCounts()
        with _opened(layout.kind, folder, chosen, ids, photos) as write:
            for crop in _read(spec, chosen.rows(part), pictures=photos is None):
                counts.add(crop, written=write(crop))
        done.missing.update(photos.missing if photos else {})
    if layout.categories is not None:
        write_categories(ids, layout.categories)
    return done


def _opened(
    kind: str, folder: Path, chosen: Chosen, ids: dict[str, int], photos: SavedPhotos | None
) -> AbstractContextManager[Write]:
    if kind == "coco":
        return coco(folder, ids, photos)
    if kind == "parquet":
        return formats.parquet(folder, chosen.columns(is_told))
    return formats.webdataset(folder) if kind == "webdataset" else formats.folder(folder)


def _labels(spec: StoreSpec, chosen: Chosen) -> list[str | None]:
    """Return every label of a written crop in this version, whether chosen or not: exports of one version agree on ids."""
    found: set[str | None] = set()
    for batch in Catalogue(spec).read_version(chosen.version, ["status", "label"]).rows:
        found |= {
            label
            for status, label in zip(*(batch[at].to_pylist() for at in (0, 1)), strict=True)
            if status == "written"
        }
    return sorted(found, key=lambda label: label or "")


def _unfinished(out: Path) -> str:
    """Return the prefix of the folders in which this machine builds this export. Other exports may be beside them."""
    return f"{out.name}.unfinished-{socket.gethostname()}-"


def _delete_leftovers(out: Path) -> None:
    """Remove what killed exports to this folder left on this machine. It may be large."""
    for left in out.parent.glob(f"{glob.escape(_unfinished(out))}*"):
        number = left.name.removeprefix(_unfinished(out))
        if _PROCESS.fullmatch(number):
            try:
                os.kill(int(number), 0)
            except ProcessLookupError:
                shutil.rmtree(left)
            except PermissionError:
                continue  # the process runs under another user


def _read(spec: StoreSpec, rows: Iterator[dict[str, Any]], *, pictures: bool) -> Iterator[Crop]:
    if not pictures:
        yield from (Crop(row, b"") for row in rows)
        return
    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="export") as pool:
        while part := list(itertools.islice(rows, _AHEAD)):
            yield from map(Crop, part, pool.map(lambda row: read_crop(spec, row), part))
