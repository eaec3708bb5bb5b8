"""Photos for ``cropline export --with-photos``: fetched again, and written upright by the crop processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from cropline.cli.photo_view import view_row
from cropline.config.profile import Profile
from cropline.config.settings import Settings
from cropline.core import storage
from cropline.core.store_spec import StoreSpec
from cropline.export import CutPhotos, PhotoFile, PhotoOfCrops
from cropline.intake import manifest

# The photo keeps its size. Only crop processes decode its bytes, which may be hostile.
_PROFILE = Profile(quality=95, subsampling="4:4:4")
_AT_ONCE = 500


def photo_cutter(settings: Settings) -> CutPhotos:
    """Return a function that writes photos to a folder and yields the file of each, in their order."""

    def cut(photos: Sequence[PhotoOfCrops], folder: Path) -> Iterator[PhotoFile]:
        for source, of_source in itertools.groupby(photos, attrgetter("source")):
            # Photos of a source that the settings no longer name are fetched with the common settings.
            fetched_as = settings.of(source) if source in settings.source_names else settings
            while part := list(itertools.islice(of_source, _AT_ONCE)):
                yield from _cut(fetched_as, part, folder)

    return cut


def _cut(settings: Settings, photos: Sequence[PhotoOfCrops], folder: Path) -> Iterator[PhotoFile]:
    import pyarrow as pa

    from cropline.core.schemas import IMAGES
    from fugue_jobs.crop_images import CropJob, crop_images

    urls = _urls(settings.storage.spec, photos)
    # A photo that changed since would not fit its boxes: the crop process compares the hash.
    rows = [
        view_row(at, urls.get((photo.manifest, photo.manifest_row), ""), _PROFILE)
        | {"source": photo.source, "image_id": photo.image_id, "sha256": photo.sha256}
        for at, photo in enumerate(photos)
    ]
    job = CropJob(
        StoreSpec(folder.resolve().as_uri()),
        settings.fetch.options,
        settings.pictures.options,
        settings.engine.processes,
    )
    for table in crop_images(job)([pa.Table.from_pylist(rows, schema=IMAGES)]):
        for row in table.to_pylist():
            why = None if row["key"] else f"{row['reason']}: {row['detail']}"
            if why and not urls.get((photos[row["manifest_row"]].manifest, photos[row["manifest_row"]].manifest_row)):
                why = "no manifest has its address any more"
            yield PhotoFile(row["key"], row["width"], row["height"], why)


def _urls(spec: StoreSpec, photos: Sequence[PhotoOfCrops]) -> dict[tuple[str, int], str]:
    """Return (manifest, row) -> URL. Manifests that retention has removed are left out."""
    wanted: dict[str, list[int]] = {}
    for photo in photos:
        wanted.setdefault(photo.manifest, []).append(photo.manifest_row)
    found: dict[tuple[str, int], str] = {}
    for key in sorted(wanted):
        if storage.exists(spec, key):
            rows = manifest.read_rows(spec, key, wanted[key], ["row", "url"]).to_pylist()
            found |= {(key, row["row"]): row["url"] for row in rows if row["url"]}
    return found
