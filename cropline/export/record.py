"""export.json: what an export holds, and how to repeat it. It has no time of its own, so repeating it gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.export.choose import Choice, Chosen
from cropline.export.crops import Crop
from cropline.export.photos import Photo
from cropline.export.split import Split

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

NAME = "export.json"


@dataclass
class PartCounts:
    """The counts of an export, or of one part of its split. ``left_out``: crops whose photo could not be had."""

    crops: int = 0
    bytes: int = 0
    no_numbers: int = 0
    left_out: int = 0

    def add(self, crop: Crop, *, written: bool) -> None:
        """Count a crop."""
        if not written:
            self.left_out += 1
            return
        self.crops += 1
        self.bytes += len(crop.data)
        self.no_numbers += crop.no_numbers


def write_record(
    folder: Path,
    spec: StoreSpec,
    choice: Choice,
    kind: str,
    split: Split | None,
    chosen: Chosen,
    parts: Mapping[str, PartCounts],
    missing: Mapping[Photo, str],
) -> None:
    """Write export.json. ``catalogue_version`` and the options are what ``cropline export`` needs to repeat it."""
    wanted = choice.version
    told: dict[str, Any] = {
        "cropline": version("cropline"),
        "format": kind,
        "storage": spec.url,
        "catalogue_version": chosen.version,
        "catalogue_committed_at": chosen.committed_at.isoformat() if chosen.committed_at else None,
        "where": choice.where,
        "profiles": sorted(choice.profiles) or chosen.profiles,
        "limit": choice.limit,
        "sample": choice.sample,
        "seed": choice.seed,
        "asked_version": wanted.isoformat() if isinstance(wanted, datetime) else wanted,
        "split": split.shares if split else None,
        "by": split.by if split else None,
        "counts": asdict(parts[""]) if split is None else {name: asdict(counts) for name, counts in parts.items()},
        "missing_photos": [
            {"source": source, "image_id": image_id, "version": of_version, "why": why}
            for (source, image_id, of_version), why in sorted(missing.items())
        ],
    }
    (folder / NAME).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
