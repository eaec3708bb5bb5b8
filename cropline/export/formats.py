"""The formats of an export. Each is a context manager that receives crops one by one and writes files to a folder.

folder      images/...: one file per crop, and metadata.jsonl (the layout of Hugging Face's imagefolder)
webdataset  000000.tar, ...: the same format as cropline's own shards
parquet     000000.parquet, ...: pictures in a column, in Hugging Face's image layout
coco        annotations.json: the photos, with the cropped regions as boxes; crops/...: the crops

JSON is strict: NaN and Infinity become null. In columns of users, bytes are base64 and decimals are text.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cropline.core.errors import ExportError
from cropline.core.keys import CROPS
from cropline.packs import KINDS, Pack, Sample, new_pack

if TYPE_CHECKING:
    import pyarrow as pa

PACK_BYTES = 256_000_000


class Crop(NamedTuple):
    """A row of the catalogue and its crop's bytes."""

    row: dict[str, Any]
    data: bytes

    @property
    def facts(self) -> dict[str, Any]:
        """The row as JSON values, without the columns that only say where cropline keeps the crop."""
        return {name: _plain(value) for name, value in self.row.items() if name not in _NOT_TOLD}

    @property
    def no_numbers(self) -> int:
        """The number of facts that are null because they were NaN or infinite."""
        return sum(_no_numbers(value) for name, value in self.row.items() if name not in _NOT_TOLD)

    @property
    def file_name(self) -> str:
        """A name that is unique among all profiles and safe on every file system."""
        return str(self.row["key"]).removeprefix(f"{CROPS}/")


_NOT_TOLD = ("shard", "offset", "reason", "detail")

Write = Callable[[Crop], None]


def _plain(value: Any) -> Any:
    if _is_no_number(value):
        return None
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _no_numbers(value: Any) -> int:
    return sum(map(_no_numbers, value)) if isinstance(value, list) else int(_is_no_number(value))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@contextmanager
def _folder(out: Path, own: pa.Schema) -> Iterator[Write]:  # noqa: ARG001 - as the others
    with (out / "metadata.jsonl").open("w", encoding="utf-8") as index:

        def write(crop: Crop) -> None:
            name = f"images/{crop.file_name}"
            _save(out / name, crop.data)
            index.write(_json({"file_name": name} | crop.facts) + "\n")

        yield write


@contextmanager
def _packs(out: Path, kind: str, own: pa.Schema) -> Iterator[Write]:
    """Write packs one after the other, each up to PACK_BYTES."""
    of_users = own.names if kind == "parquet" else ()
    number = 0
    file = (out / f"{number:06d}.{KINDS[kind]}").open("w+b")
    pack: Pack = new_pack(kind, file, own)

    def write(crop: Crop) -> None:
        nonlocal number, file, pack
        if pack.size >= PACK_BYTES:
            pack.seal()
            pack.close()
            file.close()
            number += 1
            file = (out / f"{number:06d}.{KINDS[kind]}").open("w+b")
            pack = new_pack(kind, file, own)
        name, _, extension = crop.file_name.rpartition(".")
        pack.add(Sample(name, extension, crop.facts | {n: crop.row[n] for n in of_users}, crop.data))

    try:
        yield write
        pack.seal()
    finally:
        pack.close()
        file.close()


Photo = tuple[str, str, str]
"""Source, image id and version."""


@contextmanager
def _coco(out: Path, own: pa.Schema) -> Iterator[Write]:  # noqa: ARG001 - as the others
    photos: dict[Photo, dict[str, Any]] = {}
    labels: dict[str, int] = {}
    boxes: list[dict[str, Any]] = []
    profiles: set[str] = set()

    def write(crop: Crop) -> None:
        row = crop.row
        profiles.add(row["profile"])
        if len(profiles) > 1:
            one, other = sorted(profiles)
            raise ExportError(
                f"COCO has one annotation per box, and these crops are of the profiles {one} and {other}: name one with --profile"
            )
        name = f"crops/{crop.file_name}"
        _save(out / name, crop.data)
        photo = photos.setdefault(
            (row["source"], row["image_id"], row["version"] or ""),
            {
                "id": len(photos) + 1,
                "file_name": row["image_id"],
                "width": row["image_width"],
                "height": row["image_height"],
                "date_captured": crop.facts["captured_at"],
            },
        )
        width, height = row["right"] - row["left"], row["bottom"] - row["top"]
        boxes.append(
            {
                "id": len(boxes) + 1,
                "image_id": photo["id"],
                "category_id": labels.setdefault(row["label"] or "unlabelled", len(labels) + 1),
                "bbox": [row["left"], row["top"], width, height],
                "area": width * height,
                "iscrowd": 0,
                "crop": name,
                "box_id": row["box_id"],
            }
        )

    yield write
    _name_apart(photos)
    categories = [{"id": number, "name": label} for label, number in labels.items()]
    whole = {"images": list(photos.values()), "annotations": boxes, "categories": categories}
    (out / "annotations.json").write_text(_json(whole), encoding="utf-8")


def _name_apart(photos: dict[Photo, dict[str, Any]]) -> None:
    """Name each photo by its id. When photos share an id, add source and version."""
    times = Counter(image_id for _, image_id, _ in photos)
    taken = {image_id for image_id, count in times.items() if count == 1}
    for (source, image_id, version), photo in photos.items():
        if times[image_id] > 1:
            name = f"{source}/{image_id}@{version}"
            photo["file_name"] = name if name not in taken else f"{name}#{photo['id']}"
            taken.add(photo["file_name"])


def _save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# A format gets the folder and the catalogue's columns of users.
FORMATS: dict[str, Callable[[Path, pa.Schema], AbstractContextManager[Write]]] = {
    "folder": _folder,
    "webdataset": lambda out, own: _packs(out, "shards", own),
    "parquet": lambda out, own: _packs(out, "parquet", own),
    "coco": _coco,
}
