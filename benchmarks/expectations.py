"""Validating a million boxes: validate_manifest against Great Expectations alone. Writes results/expectations.json:

vs_gx              validate_manifest (manifest in Arrow -> verdict with the bad rows' keys) / GX's own run with the same
                   rules and the same results on ready pandas DataFrames: one of images, one of a million boxes
vs_gx_own_frames   the same / GX's own run on our derived frame, ready: what the rest of our code adds to GX
peak_rss_mb        of a process that only reads the manifest's Parquet file and validates it
docs_s             what building the Data Docs adds to a run with an empty history, docs_50_s: with 50 runs in it

Seconds are CPU time of all threads of the process. tests/ checks correctness.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cropline.config.expectations import ExpectationSettings
from cropline.core.schemas import BOX, MANIFEST
from expectations import gx
from expectations.columns import row_frame
from expectations.manifest import PRESENT, Check, Rule, row_rules
from expectations.validate import Verdict, validate_manifest

SEED = 20261122
BOXES = 1_000_000
PER_IMAGE = 37
BAD = 0.01
ROUNDS = 5
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
RULES = ExpectationSettings()
RESULT = Path(__file__).parent / "results" / "expectations.json"


def make_manifest(images: int, per_image: int) -> tuple[pa.Table, set[int]]:
    """Return a manifest whose ``BAD`` share of rows has an inverted box, and these rows."""
    dice = np.random.default_rng(SEED)
    total = images * per_image
    bad = dice.choice(images, int(images * BAD), replace=False)
    x, y = dice.random(total) * 0.9, dice.random(total) * 0.9
    xmax = x + 0.05
    xmax[bad * per_image] = x[bad * per_image] - 0.05
    ids = pa.array([f"b{n}" for n in range(per_image)]).take(pa.array(np.tile(np.arange(per_image), images)))
    labels = pa.array([f"sku-{n}" for n in range(400)]).take(pa.array(dice.integers(0, 400, total)))
    corners = [pa.array(values) for values in (x, y, xmax, y + 0.05)]
    boxes = pa.StructArray.from_arrays([ids, *corners, labels, pa.array(dice.random(total))], fields=list(BOX))
    offsets = pa.array(np.arange(0, total + 1, per_image), pa.int32())
    columns: dict[str, Any] = {name: pa.nulls(images, MANIFEST.field(name).type) for name in MANIFEST.names}
    columns |= {
        "row": np.arange(images),
        "boxes": pa.ListArray.from_arrays(offsets, boxes, type=pa.list_(BOX)),
        "url": [f"https://photos.example/images/{n}.jpg?X-Signature={n:032x}" for n in range(images)],
        "unreadable": pa.array([[]] * images, pa.list_(pa.string())),
        **{name: [f"{name}-{n}" for n in range(images)] for name in ("image_id", "version", "content_hash")},
        **{name: [f"{name}-{n % 50}" for n in range(images)] for name in ("source", "store_id", "camera_id")},
        **{name: pa.array([NOW - timedelta(hours=1)] * images) for name in ("captured_at", "updated_at")},
        **{name: [3000] * images for name in ("width", "height", "bytes")},
        "sha256": [f"{n:064x}" for n in range(images)],
        "coordinates": ["normalised"] * images,
        "orientation": ["upright"] * images,
    }
    return pa.table([columns[name] for name in MANIFEST.names], schema=MANIFEST), set(bad.tolist())


def plain_frames(manifest: pa.Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the manifest as pandas frames: images, and a row per box, with all columns that GX needs."""
    images = manifest.drop_columns(["boxes"]).to_pandas()
    lists = manifest["boxes"].combine_chunks()
    boxes = pa.Table.from_struct_array(lists.flatten()).to_pandas()
    boxes.insert(0, "row", lists.value_parent_indices().to_numpy())
    boxes["x_extent"], boxes["y_extent"] = boxes["xmax"] - boxes["xmin"], boxes["ymax"] - boxes["ymin"]
    boxes["key"] = boxes["row"] * 10_000 + boxes.groupby("row").cumcount()
    return images, boxes


def plain_rules() -> tuple[list[Rule], list[Rule]]:
    """Return the rules that plain columns allow, with the same kinds of expectations."""

    def rule(column: str, kind: str, check: Check) -> Rule:
        return Rule(f"{column}_{kind}", column, column, check, f"{column} {kind}")

    in_range = Check("between", low=-0.5, high=1.5)
    names = ("image_id", "version", "url", "captured_at", "updated_at", "store_id", "camera_id")
    images = [rule(name, "present", PRESENT) for name in names]
    images += [rule(name, "positive", Check("between", low=1)) for name in ("width", "height", "bytes")]
    boxes = [rule(name, "present", PRESENT) for name in ("xmin", "ymin", "xmax", "ymax", "box_id")]
    boxes += [rule(name, "in_range", in_range) for name in ("xmin", "ymin", "xmax", "ymax")]
    boxes += [rule(name, "ordered", Check("between", low=0)) for name in ("x_extent", "y_extent")]
    boxes.append(rule("key", "unique", Check("unique")))
    return images, boxes


def gx_alone(images: pd.DataFrame, boxes: pd.DataFrame) -> set[int]:
    """Run GX alone on ready frames. Return the keys of the bad rows."""
    image_rules, box_rules = plain_rules()
    broken = [gx.run_suite("images", images, image_rules).broken, gx.run_suite("boxes", boxes, box_rules).broken]
    return {row for rows in broken for keys in rows.values() for row in keys}


def main() -> None:
    """Measure, print and write results/expectations.json. Takes about two minutes."""
    manifest, bad = make_manifest(BOXES // PER_IMAGE, PER_IMAGE)
    images, boxes = plain_frames(manifest)
    frame = row_frame(manifest, now=NOW)
    assert set(judge(manifest).bad_rows) == bad == gx_alone(images, boxes)
    ours, plain, own = interleaved(
        lambda: judge(manifest),
        lambda: gx_alone(images, boxes),
        lambda: gx.run_suite("own", frame, row_rules(RULES)),
    )
    wide, _ = make_manifest(BOXES, 1)
    result = {
        "boxes": manifest.num_rows * PER_IMAGE,
        "images": manifest.num_rows,
        "bad_rows": len(bad),
        "validate_s": round(ours, 3),
        "gx_ready_s": round(plain, 3),
        "vs_gx": round(ours / plain, 3),
        "gx_own_frames_s": round(own, 3),
        "vs_gx_own_frames": round(ours / own, 3),
        "peak_rss_mb": peak_rss_mb(manifest),
        "million_images": million_images(wide),
        **docs_seconds(manifest.slice(0, 500)),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def million_images(wide: pa.Table) -> dict[str, float]:
    """Measure the other extreme, one box per image, where nesting saves nothing."""
    frame = row_frame(wide, now=NOW)
    ours, own = interleaved(lambda: judge(wide), lambda: gx.run_suite("own", frame, row_rules(RULES)), rounds=2)
    return {"validate_s": round(ours, 3), "vs_gx_own_frames": round(ours / own, 3), "peak_rss_mb": peak_rss_mb(wide)}


def judge(manifest: pa.Table, docs: Path | None = None, now: datetime = NOW) -> Verdict:
    return validate_manifest(manifest, RULES, run_name="benchmark", now=now, docs=docs)


def interleaved(*ways: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Return the least CPU seconds of each method. Methods take turns, so that other load affects all."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, taken in zip(ways, seconds, strict=True):
            gc.collect()
            start = time.process_time()
            way()
            taken.append(time.process_time() - start)
    return [min(taken) for taken in seconds]


def docs_seconds(manifest: pa.Table) -> dict[str, float]:
    """Return what Data Docs add to a run."""
    with tempfile.TemporaryDirectory() as folder:
        (without,) = interleaved(lambda: judge(manifest))
        taken = []
        for minute in range(51):
            start = time.process_time()
            judge(manifest, Path(folder), NOW + timedelta(minutes=minute))
            taken.append(time.process_time() - start - without)
    return {"docs_s": round(min(taken[1:8]), 3), "docs_50_s": round(min(taken[-7:]), 3)}


def peak_rss_mb(manifest: pa.Table) -> int:
    """Return the peak of a new process that reads the manifest and validates it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        pq.write_table(manifest, path, compression="zstd")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_validate_file, path).result()


def _validate_file(path: Path) -> int:
    judge(pq.read_table(path))
    # getrusage would return the parent's peak, which survives fork and exec.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return int(peak[1]) // 1024


if __name__ == "__main__":
    main()
