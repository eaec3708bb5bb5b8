"""Small pictures of crops, made when they are asked for and kept below a folder with a size limit."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.catalogue.crop_files import read_crop
from cropline.core import storage
from cropline.core.errors import StorageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from cropline.core.store_spec import StoreSpec

SIDE = 240  # px, of the longer side
_MOST_PIXELS = 100_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF")


class NoPicture(Exception):
    """The crop does not exist, or its bytes cannot be shown. The message says which."""


def open_picture(data: bytes, *, draft: bool = True) -> Image:
    """Return a crop, upright, as an RGB picture. ``draft``: a large one may be decoded smaller. Raises NoPicture."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                raise NoPicture("too large to show")
            if draft:
                opened.draft("RGB", (2 * SIDE, 2 * SIDE))
            # A lossless crop may have a tag that turns it.
            return ImageOps.exif_transpose(opened).convert("RGB")
    except NoPicture:
        raise
    except Exception as error:  # noqa: BLE001 - of bytes that are damaged Pillow raises nearly anything
        raise NoPicture(f"cannot be shown ({type(error).__name__})") from None


def shrunk(data: bytes, side: int = SIDE) -> bytes:
    """Return a JPEG whose longer side is at most ``side`` px. Raises NoPicture."""
    picture = open_picture(data)
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82)
    return out.getvalue()


class Thumbnails:
    """Thumbnails of one store, cached in a new folder below ``parent`` that ``close`` removes.

    A cached thumbnail is served only while the crop's object exists, so an erased crop is gone at once. ``drop`` also
    removes the cached files of erased photos.
    """

    def __init__(self, store: StoreSpec, parent: Path, most_bytes: int) -> None:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store, self._most = store, most_bytes
        self._folder = Path(tempfile.mkdtemp(prefix="thumbnails-", dir=parent))
        self._lock = threading.Lock()
        self._files: OrderedDict[str, tuple[int, tuple[str, str]]] = OrderedDict()  # name: bytes, photo; oldest first
        self._bytes = 0

    def get(self, row: Mapping[str, Any]) -> bytes:
        """Return the thumbnail (JPEG) of a catalogue row. Raises NoPicture."""
        if not row["key"]:
            raise NoPicture("this box has no crop")
        name = hashlib.sha256(repr((row["key"], row["shard"], row["offset"], row["sha256"])).encode()).hexdigest()
        with self._lock:
            known = name in self._files
            if known:
                self._files.move_to_end(name)
        try:
            if known and storage.exists(self._store, row["shard"] or row["key"]):
                return (self._folder / name).read_bytes()
            small = shrunk(read_crop(self._store, row))
        except StorageError:
            self._remove({name})
            raise NoPicture("this crop is no longer there") from None
        except FileNotFoundError:  # another thread made room
            small = shrunk(read_crop(self._store, row))
        self._keep(name, small, (row["source"], row["image_id"]))
        return small

    def made(self, name: str, photo: tuple[str, str], make: Callable[[], bytes]) -> bytes:
        """Return the cached picture of this name, or make and keep it. ``photo``: what it shows, see ``drop``."""
        name = hashlib.sha256(name.encode()).hexdigest()
        with self._lock:
            if name in self._files:
                self._files.move_to_end(name)
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            data = make()
        self._keep(name, data, photo)
        return data

    @property
    def photos(self) -> set[tuple[str, str]]:
        """The photos (source, image_id) whose thumbnails are cached."""
        with self._lock:
            return {photo for _, photo in self._files.values()}

    def drop(self, erased: Collection[tuple[str, str]]) -> None:
        """Remove the cached thumbnails of these photos."""
        with self._lock:
            names = {name for name, (_, photo) in self._files.items() if photo in erased}
        self._remove(names)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self, name: str, data: bytes, photo: tuple[str, str]) -> None:
        part = self._folder / f"{name}.{threading.get_ident()}"
        part.write_bytes(data)
        part.replace(self._folder / name)
        with self._lock:
            old = self._files.pop(name, (0, photo))[0]
            self._files[name] = (len(data), photo)
            self._bytes += len(data) - old
            over: set[str] = set()
            excess = self._bytes - self._most
            for each, (size, _) in self._files.items():
                if excess <= 0 or each == name:
                    break
                over.add(each)
                excess -= size
        self._remove(over)

    def _remove(self, names: Collection[str]) -> None:
        with self._lock:
            for name in names:
                self._bytes -= self._files.pop(name, (0, ("", "")))[0]
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


def forget_erased(thumbnails: Thumbnails, forgotten: Callable[[str, list[str]], set[str]]) -> None:
    """Drop the thumbnails of erased photos. ``forgotten``: returns those ids of a source that were erased."""
    by_source: dict[str, list[str]] = {}
    for source, image_id in thumbnails.photos:
        by_source.setdefault(source, []).append(image_id)
    thumbnails.drop({(source, each) for source, ids in by_source.items() for each in forgotten(source, ids)})
