"""Items as an image API sends them, and manifests made from them, for the tests of expectations/."""

import io
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cropline.config.settings import ApiSettings
from cropline.core.schemas import MANIFEST
from cropline.intake.manifest import manifest_row

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def box(**changes: Any) -> dict[str, Any]:
    return {"id": "b0", "xmin": 0.1, "ymin": 0.2, "xmax": 0.3, "ymax": 0.5, "label": "cola", "score": 0.9} | changes


def item(number: int, **changes: Any) -> dict[str, Any]:
    """Return a good item with two boxes; ``changes`` overwrite its fields."""
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
    """Return the manifest that results from landing these items."""
    api = api or ApiSettings()
    return pa.Table.from_pylist([manifest_row(at, one, api) for at, one in enumerate(items)], schema=MANIFEST)


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def spoilt(whole: bytes) -> Iterator[bytes]:
    """Yield corrupt versions of a Parquet file: empty, replaced, truncated, zeroed, or changed in its first page."""
    yield from (b"", b"PAR1", b"<html>404</html>", whole[:-1], whole[: len(whole) // 2], whole[len(whole) // 2 :])
    yield bytes(len(whole))
    yield whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]


def flipped(whole: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield the file with a few random bits flipped. It may still be readable."""
    dice = random.Random(seed)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        yield bytes(data)
