"""The gallery over a large catalogue: what a person waits for each page, over real HTTP.

    python -m benchmarks.gallery                 3,000,000 rows in 365 days: a minute, 1 GB of disk
    ROWS=30000000 python -m benchmarks.gallery   ten times as many
    TABLES=folder                                keeps the table there, and uses that of an earlier call

The table is that of benchmarks/catalogue.py, with cameras that look at the same shelf for a year: 10 photos a camera and
day, 2 % of the boxes failed. Each figure is the median of five requests for different things; for a group of pages the
slowest median counts.

page_ms      the first page, and page 1,000, by key
filter_ms    by a common label, a camera, a reason, a label of one photo in the table, one that is nowhere; the most blurred
slot_ms      a slot of 30 days of one camera (300 photos), as a page; its crops are there
photo_ms     the page of one photo, the page of one crop
runs_ms      runs and failures by reason, with examples
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import requests

from benchmarks import catalogue
from cropline.catalogue import CATALOGUE
from cropline.cli.gallery import serving
from cropline.config.settings import Settings, load_settings
from cropline.core import storage
from cropline.gallery.filters import Place
from cropline.state import State

ROWS = int(os.environ.get("ROWS", 3_000_000))
RESULT = Path(__file__).parent / "results" / "gallery.json"
ROUNDS, PER_PAGE = 5, 60
A_DAY = catalogue.images_a_day(ROWS)
CAMERAS = max(1, A_DAY // 10)
WIDTH, HEIGHT, COLUMNS = 4_000, 3_000, 8
RARE = "one of its kind"
_REASONS = ("http_404", "not_a_picture", "box_outside", "truncated")


def shelf_rows(photos: list[tuple[int, int]], *, seed: int) -> pa.Table:
    """Return the rows of benchmarks/catalogue.py as those of cameras before shelves: boxes have places and stay there."""
    rows = catalogue.rows_of(photos, seed=seed)
    boxes = np.tile(np.arange(catalogue.BOXES), len(photos))
    numbers = np.repeat([number for _, number in photos], catalogue.BOXES)
    days = np.repeat([day for day, _ in photos], catalogue.BOXES)
    failed = (numbers * 37 + boxes * 11 + days) % 50 == 0
    left, top = boxes % COLUMNS * 480 + 40, boxes // COLUMNS * 580 + 40
    label = np.where((days == 40) & (numbers == 3), RARE, np.char.add("sku-", (boxes % 30).astype(str)))
    texts = {
        "camera_id": pa.array(np.char.add("cam-", (numbers % CAMERAS).astype(str))),
        "store_id": pa.array(np.char.add("store-", (numbers % CAMERAS // 4).astype(str))),
        "label": pa.array(label),
        "status": pa.array(np.where(failed, "failed", "written")),
        "reason": pa.array(
            [_REASONS[number % 4] if bad else None for number, bad in zip(numbers, failed, strict=True)]
        ),
        "key": pc.if_else(pa.array(failed), None, rows["key"]),
        "format": pa.array(np.where(failed, None, "jpeg")),
    }
    places = {"left": left, "top": top, "right": left + 400, "bottom": top + 500}
    sizes = {"image_width": np.full(len(boxes), WIDTH), "image_height": np.full(len(boxes), HEIGHT)}
    for name, values in (texts | places | sizes).items():
        field = CATALOGUE.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(values).cast(field.type))
    return rows


def _pictures(settings: Settings, camera: int) -> None:
    """Store the crops of one slot of a camera."""
    from PIL import Image

    out = io.BytesIO()
    Image.effect_noise((400, 500), 60).convert("RGB").save(out, "JPEG", quality=85)
    for day in range(160, 200):
        for number in range(camera, A_DAY, CAMERAS):
            storage.write(settings.storage.spec, catalogue.key_of(catalogue.image_id(day, number), 5), out.getvalue())


def _failures(settings: Settings) -> None:
    """Let the state know the reasons that the page of runs shows."""
    State.open(settings.state).close()
    at = "2026-12-31T00:00:00.000000+00:00"
    with sqlite3.connect(settings.state.url.get_secret_value().removeprefix("sqlite:///")) as database:
        database.executemany(
            "INSERT INTO images (source, image_id, profile, state, since, reason, attempts, profile_hash, version, fingerprint, "
            "manifest, manifest_row, boxes, first_seen) VALUES ('cameras', ?, 'default', 'dead', ?, ?, 5, 'p', 'v', 'f', 'm', 0, 37, ?)",
            [(reason, at, reason, at) for reason in (*_REASONS, "long_gone")],
        )


def _photo(day: int, number: int) -> dict[str, str]:
    day_text = (catalogue.FIRST + timedelta(day)).isoformat()
    return {"source": "cameras", "image": catalogue.image_id(day, number), "day": day_text}


def _deep(pages: int, turn: int) -> str:
    """Return the token of the page that begins so many pages into the order newest first."""
    day = catalogue.DAYS - 1 - (pages * PER_PAGE // catalogue.BOXES + turn) // A_DAY
    number = A_DAY - 1 - (pages * PER_PAGE // catalogue.BOXES + turn) % A_DAY
    at = time.mktime((catalogue.FIRST + timedelta(day)).timetuple()) + number % 86_400
    return Place(at, "cameras", catalogue.image_id(day, number), "default", 5).token()


def measure(address: str) -> dict[str, float]:
    """Return the median milliseconds of each page."""
    session = requests.Session()

    def took(path: str, query: Callable[[int], dict[str, Any]], holds: str) -> float:
        times = []
        for turn in range(ROUNDS):
            started = time.monotonic()
            answer = session.get(address + path, params=query(turn), timeout=600)
            times.append(1000 * (time.monotonic() - started))
            if answer.status_code != 200 or holds not in answer.text:
                raise SystemExit(f"{path} {query(turn)}: {answer.status_code}, without {holds!r}")
        return statistics.median(times)

    card, newest = '<li class="card', {"sort": "newest"}
    found = {
        "first page": took("/", lambda _: newest, card),
        "page 1,000": took("/", lambda turn: newest | {"after": _deep(1_000, turn)}, card),
        "common label": took("/", lambda turn: {"label": f"sku-{turn}"}, card),
        "a camera": took("/", lambda turn: {"camera_id": f"cam-{turn % CAMERAS}"}, card),
        "a reason": took("/", lambda turn: {"reason": _REASONS[turn % 4]}, card),
        "rare label": took("/", lambda _: {"label": RARE}, "Crops"),
        "nowhere": took("/", lambda turn: {"label": f"nothing {turn}"}, "Crops"),
        "most blurred": took("/", lambda turn: {"sort": "blurred", "label": f"sku-{turn}"}, card),
        "slot": took("/slot", lambda turn: _photo(180, turn % 2 * CAMERAS) | {"profile": "default", "box": 5, "hours": 720}, "<img"),
        "photo": took("/photo", lambda turn: _photo(20 + 60 * turn, turn), card),
        "crop": took("/crop", lambda turn: _photo(20 + 60 * turn, turn) | {"profile": "default", "box": 7}, "sku-7"),
        "runs": took("/runs", lambda _: {}, "of-photo"),
    }  # fmt: skip
    for name, value in found.items():
        print(f"{name:>14} {value:9,.1f} ms", flush=True)
    return found


def main() -> None:
    kept = os.environ.get("TABLES")
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="cropline-benchmark-"))
        folder = Path(kept or scratch) / f"gallery-{ROWS}"
        settings = load_settings(storage={"url": folder.as_uri()}, state={"url": f"sqlite:///{scratch}/state.db"})
        if not folder.exists():
            catalogue.build(folder, ROWS, shelf_rows)
            _pictures(settings, 0)
        _failures(settings)
        address = stack.enter_context(serving(settings, "127.0.0.1", 0, None, Path(scratch) / "cache", 50))
        found = measure(address)
    figures = {
        "rows": ROWS,
        "page_ms": max(found["first page"], found["page 1,000"]),
        "filter_ms": max(found[name] for name in ("common label", "a camera", "a reason", "rare label", "nowhere", "most blurred")),
        "slot_ms": found["slot"],
        "photo_ms": max(found["photo"], found["crop"]),
        "runs_ms": found["runs"],
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({name: round(value, 1) for name, value in figures.items()}, indent=2) + "\n")
    for name, value in figures.items():
        print(f"{name:>18} {value:,.1f}")


if __name__ == "__main__":
    main()
