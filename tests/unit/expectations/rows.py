"""Items as an image API sends them, and manifests landed from them: what the tests of expectations/ start from."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from cropline.manifest import manifest_row
from cropline.schemas import MANIFEST
from cropline.settings import ApiSettings

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def box(**changes: Any) -> dict[str, Any]:
    return {"id": "b0", "xmin": 0.1, "ymin": 0.2, "xmax": 0.3, "ymax": 0.5, "label": "cola", "score": 0.9} | changes


def item(number: int, **changes: Any) -> dict[str, Any]:
    """A good item with two boxes; ``changes`` overwrite its fields."""
    good = {
        "id": f"img-{number}",
        "etag": f"v-{number}",
        "url": f"https://photos.example/{number}.jpg?sig=k{number}",
        "captured_at": "2026-11-22T08:00:00Z",
        "updated_at": "2026-11-22T08:30:00Z",
        "store_id": "s1",
        "camera_id": "c1",
        "width": 4000,
        "height": 3000,
        "bytes": 2_600_000,
        "sha256": f"{number:064x}",
        "boxes": [box(), box(id="b1", xmin=0.5, xmax=0.8)],
    }
    return good | changes


def landed(items: Iterable[Any], api: ApiSettings | None = None) -> pa.Table:
    """The manifest that landing these items makes."""
    api = api or ApiSettings()
    return pa.Table.from_pylist([manifest_row(at, one, api) for at, one in enumerate(items)], schema=MANIFEST)
