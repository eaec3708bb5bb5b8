"""Hand-made tables for the crop job."""

import hashlib
import io
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.config.settings import FetchSettings
from cropline.core import schemas, storage
from cropline.core.store_spec import StoreSpec
from fugue_jobs.crop_images import CropJob
from fugue_jobs.engines.manifests import ManifestRows

MANIFEST = "manifests/one.parquet"
CLAIMED_COLUMNS = ("work", "store_name", "city", "region", "store_format")
# A user's own script.
OWN = """
west = SELECT images.*, claimed.work, stores.store_name, UPPER(stores.city) AS city, stores.region, stores.store_format
  FROM images INNER JOIN claimed ON images.manifest = claimed.manifest AND images.manifest_row = claimed.manifest_row
  LEFT JOIN stores ON images.store_id = stores.store_id {where}
crops = TRANSFORM west COARSE PREPARTITION {{{{ partitions }}}} USING crop_images SCHEMA {{{{ crops_schema }}}} {end}
"""
IMAGE_ROWS = pa.schema([field for field in schemas.IMAGES if field.name not in CLAIMED_COLUMNS])


def job(where: Path | StoreSpec, **changes: Any) -> CropJob:
    settings: dict[str, Any] = {
        "store": where if isinstance(where, StoreSpec) else StoreSpec(where.as_uri()),
        "fetch": FetchSettings(allow_loopback=True).options,
        "pictures": PictureLimits().options,
        "processes": 2,
    }
    return CropJob(**(settings | changes))


def box(box_id: str | None, xmin: Any, ymin: Any, xmax: Any, ymax: Any) -> dict[str, Any]:
    return {
        "box_id": box_id,
        "xmin": xmin,
        "ymin": ymin,
        "xmax": xmax,
        "ymax": ymax,
        "label": f"label of {box_id}",
        "score": 0.5,
    }


def image(row: int, url: str, boxes: list[dict[str, Any]] | None, **changes: Any) -> dict[str, Any]:
    values = {
        "source": "cameras",
        "image_id": f"image-{row}",
        "manifest": MANIFEST,
        "manifest_row": row,
        "version": f"v{row}",
        "url": url,
        "coordinates": "normalised",
        "orientation": "upright",
        "captured_at": "2026-11-22T08:40:00+00:00",
        "camera_id": "door-1",
        "boxes": boxes,
    }
    return {field.name: (values | changes).get(field.name) for field in IMAGE_ROWS}


def images(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=IMAGE_ROWS)


def landed(spec: StoreSpec, rows: list[dict[str, Any]], group: int = 3) -> ManifestRows:
    """Store the rows as a manifest with its schema, so many rows per row group."""
    taken = [
        {"row": row["manifest_row"], "captured_at": datetime.fromisoformat(row["captured_at"])}
        | {name: row[name] for name in schemas.MANIFEST.names if name in row and name != "captured_at"}
        for row in rows
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(taken, schema=schemas.MANIFEST), sink, row_group_size=group)
    storage.write(spec, MANIFEST, sink.getvalue())
    return ManifestRows(spec, ((MANIFEST, tuple(row["manifest_row"] for row in rows)),))


def work(name: str, profile: Profile, image_id: str) -> dict[str, str]:
    return {
        "profile": name,
        "profile_hash": profile.hash,
        "fingerprint": hashlib.sha256(f"{image_id} {name}".encode()).hexdigest(),
        "recipe": profile.recipe,
    }


def claims(rows: list[dict[str, Any]], profiles: dict[str, Profile]) -> pa.Table:
    """Return a claim of every image for every profile."""
    return pa.Table.from_pylist(
        [
            {name: row[name] for name in ("source", "image_id", "manifest", "manifest_row")}
            | {"work": [work(name, profile, row["image_id"]) for name, profile in profiles.items()]}
            for row in rows
        ],
        schema=schemas.CLAIM,
    )


def stores(*ids: str) -> pa.Table:
    rows = [
        {"store_id": i, "store_name": f"Store {i}", "city": "Bergen", "region": "West", "store_format": "kiosk"}
        for i in ids
    ]
    return pa.Table.from_pylist(rows, schema=schemas.STORES)
