"""The formats of an export: each is a context that takes crops one by one and leaves files in a folder.

Belongs here: what the files are called and what is in them. Does not: which crops.

folder      images/...: a file a crop, and metadata.jsonl (the layout of Hugging Face's imagefolder)
webdataset  000000.tar, ...: as cropline's own shards
parquet     000000.parquet, ...: pictures in a column, Hugging Face's image layout
coco        annotations.json: the photos, and the regions that were cut out of them as boxes; crops/...: the crops themselves
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cropline.keys import CROPS
from cropline.packs import KINDS, Pack, Sample, new_pack

PACK_BYTES = 256_000_000


class Crop(NamedTuple):
    """A row of the catalogue and its crop's bytes."""

    row: dict[str, Any]
    data: bytes

    @property
    def facts(self) -> dict[str, Any]:
        """The row as JSON takes it; what is only about where cropline keeps the crop is left out."""
        row = {name: value for name, value in self.row.items() if name not in ("shard", "offset", "reason", "detail")}
        return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}

    @property
    def file_name(self) -> str:
        """Unique, also among profiles, and safe on every file system."""
        return str(self.row["key"]).removeprefix(f"{CROPS}/")


Write = Callable[[Crop], None]


@contextmanager
def _folder(out: Path) -> Iterator[Write]:
    with (out / "metadata.jsonl").open("w", encoding="utf-8") as index:

        def write(crop: Crop) -> None:
            name = f"images/{crop.file_name}"
            _save(out / name, crop.data)
            index.write(json.dumps({"file_name": name} | crop.facts, ensure_ascii=False) + "\n")

        yield write


@contextmanager
def _packs(out: Path, kind: str) -> Iterator[Write]:
    """A pack after the other, each full at PACK_BYTES."""
    number = 0
    file = (out / f"{number:06d}.{KINDS[kind]}").open("w+b")
    pack: Pack = new_pack(kind, file)

    def write(crop: Crop) -> None:
        nonlocal number, file, pack
        if pack.size >= PACK_BYTES:
            pack.seal()
            pack.close()
            file.close()
            number += 1
            file = (out / f"{number:06d}.{KINDS[kind]}").open("w+b")
            pack = new_pack(kind, file)
        name, _, extension = crop.file_name.rpartition(".")
        pack.add(Sample(name, extension, crop.facts, crop.data))

    try:
        yield write
        pack.seal()
    finally:
        pack.close()
        file.close()


@contextmanager
def _coco(out: Path) -> Iterator[Write]:
    photos: dict[tuple[str, str, str], dict[str, Any]] = {}
    labels: dict[str, int] = {}
    boxes: list[dict[str, Any]] = []

    def write(crop: Crop) -> None:
        row = crop.row
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
                "category_id": labels.setdefault(row["label"] or "", len(labels) + 1),
                "bbox": [row["left"], row["top"], width, height],
                "area": width * height,
                "iscrowd": 0,
                "crop": name,
                "box_id": row["box_id"],
            }
        )

    yield write
    categories = [{"id": number, "name": label or "unlabelled"} for label, number in labels.items()]
    whole = {"images": list(photos.values()), "annotations": boxes, "categories": categories}
    (out / "annotations.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")


def _save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


FORMATS: dict[str, Callable[[Path], AbstractContextManager[Write]]] = {
    "folder": _folder,
    "webdataset": lambda out: _packs(out, "shards"),
    "parquet": lambda out: _packs(out, "parquet"),
    "coco": _coco,
}
