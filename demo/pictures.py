"""Photos as JPEG files: drawn once, cached on disk, drawn ahead in several processes when there are many.

A file's name has a hash of everything that its bytes depend on, including the drawing code, so that the cache
never returns an older drawing.
"""

import hashlib
import json
import math
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import PIL
from PIL import ExifTags, Image

from demo.layout import Layout
from demo.shelves import paint
from demo.world import Model, Photo, World

_QUALITY = 92
# For less drawing (in megapixels) a pool costs more than it saves: its processes import for half a second.
_WORTH_A_POOL = 20.0
# How to turn the upright picture so that the orientation tag turns it back.
_STORED = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo's file. Width and height are of the upright picture."""

    path: Path
    etag: str
    sha256: str
    size: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    layout: Layout
    width: int
    height: int
    dice: str
    model: Model
    taken_at: str


class Pictures:
    """The photos of one world. Thread-safe: threads wait for each other's drawing."""

    def __init__(self, world: World, megapixels: float, cache_dir: Path, workers: int) -> None:
        self._world = world
        self._megapixels = megapixels
        self._cache_dir = cache_dir
        self._workers = workers
        self._known: dict[tuple[str, int], Picture] = {}
        self._lock = threading.Lock()

    def get(self, photo: Photo) -> Picture:
        """Return the photo's file, drawn if necessary."""
        return self.get_all([photo])[0]

    def get_all(self, photos: Sequence[Photo]) -> list[Picture]:
        """Return the photos' files; missing ones are drawn together."""
        with self._lock:
            fresh = [photo for photo in photos if (photo.image_id, photo.revision) not in self._known]
            jobs = {(photo.image_id, photo.revision): self._job(photo) for photo in fresh}
            self._draw([job for job in jobs.values() if not job.path.exists()])
            for key, job in jobs.items():
                self._known[key] = _read(job, key[1])
            return [self._known[photo.image_id, photo.revision] for photo in photos]

    def _draw(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        self._cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._workers == 1 or len(jobs) * self._megapixels < _WORTH_A_POOL:
            for job in jobs:
                _draw(job)
            return
        # Give photos of one aisle to one process where possible: they share its drawn packs.
        jobs.sort(key=lambda job: (job.layout.aisle, job.path.name))
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(self._workers, len(jobs)), mp_context=spawn) as pool:
            list(pool.map(_draw, jobs, chunksize=max(1, min(4, len(jobs) // self._workers))))

    def _job(self, photo: Photo) -> _Job:
        width, height = _size(photo.camera.model, self._megapixels)
        dice = f"{self._world.seed}:{photo.image_id}:{photo.revision}"
        taken_at = f"{photo.captured_at:%Y:%m:%d %H:%M:%S}"
        depends_on = [_drawing_version(), dice, width, height, photo.emptied, taken_at]
        digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
        path = self._cache_dir / f"{photo.image_id}-{digest}.jpg"
        return _Job(path, self._world.layout(photo), width, height, dice, photo.camera.model, taken_at)


def _size(model: Model, megapixels: float) -> tuple[int, int]:
    pixels = megapixels * model.megapixels * 1e6
    return _sixteens(math.sqrt(pixels * model.aspect)), _sixteens(math.sqrt(pixels / model.aspect))


def _sixteens(length: float) -> int:
    # Sensors have sides of whole JPEG blocks.
    return round(length / 16) * 16


def _draw(job: _Job) -> None:
    picture = paint(job.layout, job.width, job.height, Random(job.dice))
    if job.model.orientation in _STORED:
        picture = picture.transpose(_STORED[job.model.orientation])
    # Write to a temporary file: readers never see half a file, and two processes may draw the same one.
    draft = job.path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
    picture.save(draft, "JPEG", quality=_QUALITY, exif=_exif(job))
    draft.replace(job.path)


def _exif(job: _Job) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = job.model.make
    exif[ExifTags.Base.Model] = job.model.name
    exif[ExifTags.Base.Software] = job.model.firmware
    exif[ExifTags.Base.Orientation] = job.model.orientation
    exif[ExifTags.Base.DateTime] = job.taken_at
    return exif


def _read(job: _Job, revision: int) -> Picture:
    content = job.path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return Picture(job.path, f"{sha256[:16]}-{revision}", sha256, len(content), job.width, job.height)


@lru_cache(maxsize=1)
def _drawing_version() -> str:
    digest = hashlib.sha256(f"{PIL.__version__} {np.__version__}".encode())
    for name in ("art", "layout", "packs", "pictures", "products", "shelves", "world"):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()
