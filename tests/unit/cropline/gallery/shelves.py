"""A small installation for the gallery's tests: crops in a local store, their rows in the catalogue, no flow."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, ImageDraw

from cropline.catalogue import Catalogue
from cropline.config.settings import Settings, load_settings
from cropline.core import storage
from cropline.core.schemas import CROPS

MORNING = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)


def settings_in(folder: Path) -> Settings:
    return load_settings(storage={"url": f"file://{folder}/store"}, state={"url": f"sqlite:///{folder}/state.db"})


def picture(colour: str, stripes: int = 0) -> bytes:
    """Return a JPEG of 60 x 80 px; other stripes give another perceptual hash."""
    drawn = Image.new("RGB", (60, 80), colour)
    draw = ImageDraw.Draw(drawn)
    for at in range(stripes):
        draw.rectangle((at * 60 // stripes, 0, at * 60 // stripes + 8, 80), fill="white" if at % 2 else "black")
    out = io.BytesIO()
    drawn.save(out, "JPEG")
    return out.getvalue()


def box(image_id: str, number: int = 0, **values: Any) -> dict[str, Any]:
    """Return a row of CROPS: a written crop of a photo of 1000 x 800 px, one box to the right of the other."""
    left, at = 100 + 150 * number, values.pop("at", MORNING)
    base: dict[str, Any] = {
        "source": "cams",
        "image_id": image_id,
        "version": "v1",
        "profile": "default",
        "profile_hash": "f" * 32,
        "fingerprint": f"{image_id}/v1",
        "box_id": f"b{number}",
        "box_index": number,
        "status": "written",
        "key": f"crops/{hashlib.sha256(image_id.encode()).hexdigest()[:16]}/{number}.jpg",
        "width": 60,
        "height": 80,
        "format": "jpeg",
        "left": left,
        "top": 200,
        "right": left + 100,
        "bottom": 400,
        "label": "cola",
        "image_width": 1000,
        "image_height": 800,
        "sharpness": 100.0 + number,
        "luminance": 90.0,
        "captured_at": at.isoformat(),
        "store_id": "s1",
        "camera_id": "cam-1",
        "manifest": "manifests/1.parquet",
        "manifest_row": 0,
    }
    return base | values


def failed(image_id: str, number: int = 0, reason: str = "http_404", **values: Any) -> dict[str, Any]:
    """Return a row of a box that has no crop."""
    none = dict.fromkeys(("key", "width", "height", "format", "sharpness", "luminance"))
    return box(image_id, number, **none, status="failed", reason=reason, detail="gone", **values)


def put(settings: Settings, rows: Sequence[dict[str, Any]], pictures: dict[str, bytes] | None = None) -> None:
    """Commit the rows, and store a picture for each crop: that of its label, else a grey one."""
    spec = settings.storage.spec
    filled = []
    for row in rows:
        if row["key"]:
            data = (pictures or {}).get(row["image_id"], picture("grey"))
            storage.write(spec, row["key"], data)
            filled.append(row | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        else:
            filled.append(row)
    Catalogue(spec).append(
        pa.Table.from_pylist(filled, schema=CROPS),
        batch_id=f"batch-{rows[0]['image_id']}",
        attempt=1,
        flow_run="run-1",
        committed_at=MORNING + timedelta(days=1),
    )
