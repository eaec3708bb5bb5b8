"""Where the CPU of a photo goes: ms by stage, and their share of the whole job. Writes results/budget.json.

Each stage is measured in one thread of this process, photo by photo, as the crop processes and the flow run it (the
functions of the product are wrapped with a clock of the thread). The least of the rounds counts for each photo.

fetch    the request and its body, without the hash
hash     sha256 of the photo and of its crops
walk     the walk over the photo's Huffman codes (cropline-regions; measured apart and taken off decode)
decode   the rest of the decoding
encode   crops to files; by the lossless profile: the copies
measure  brightness, sharpness, the photo's hash
cut      the rest of a photo's way through fugue_jobs.imaging: header, boxes, colour, outcomes
store    files written
rows     rows in, outcomes to rows out
commit   the batch's rows to the catalogue and to the state (SQLite), as one batch of 500 photos
pool     a photo's CPU in the whole job, with its processes, less all of the above: pipes, threads
job      what a whole job costs whatever it holds (Fugue, the script), as part of a batch of 500 photos
engine   for Spark: its whole job's CPU less that of native

STAGE_ms, STAGE_share  of native, default profile; lossless_STAGE_ms of the lossless one. whole_ms, spark_ms: the whole job.
other_share: what is not fetch, walk, decode, encode, hash or store. PHOTOS=64 ROUNDS=3; SPARK=0 leaves out Spark.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pyarrow as pa
from PIL import Image

from benchmarks.bed import draw_bed, scratch, serve
from benchmarks.crop_engine import Bed, worker
from benchmarks.whole_job import crop_job, tables
from cropline.core.schemas import IMAGES

PHOTOS = int(os.environ.get("PHOTOS", "32"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
BATCH = 500
STAGES = ("fetch", "hash", "walk", "decode", "encode", "measure", "cut", "store", "rows", "commit")
NEEDED = frozenset(("fetch", "walk", "decode", "encode", "hash", "store"))
RESULT = Path(__file__).parent / "results" / "budget.json"


class Meter:
    """CPU seconds of this thread by stage. A stage inside another one is taken off it, with the clock's own cost."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner = [0.0]
        self._inside = self._outside = (
            0.0  # the clock's cost: in the stage's own time, and in that of the stage around it
        )
        empty = self.around("empty", lambda: None)
        started = time.thread_time()
        for _ in range(1_000):
            empty()
        whole = (time.thread_time() - started) / 1_000
        inside = self.seconds["empty"] / 1_000
        self._inside, self._outside = inside, whole - inside
        self.seconds.clear()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._inner.append(0.0)
        started = time.thread_time()
        yield
        taken = time.thread_time() - started
        self.seconds[name] += taken - self._inner.pop() - self._inside
        self._inner[-1] += taken + self._outside

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*args, **options)

        return timed


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """Wrap the product's functions."""
    from fugue_jobs.imaging import decode, lossless, measure, photo_hash, pixels
    from fugue_jobs.pool import storing

    targets: list[tuple[Any, str, str]] = [
        (decode.Photo, "load", "decode"),
        (pixels, "encode", "encode"),
        (pixels, "open_bits", "walk"),
        (lossless.Bits, "copy", "encode"),
        (pixels, "sha256", "hash"),
        (storing.CropStore, "put", "store"),
        (photo_hash.PhotoHash, "add", "measure"),
        (photo_hash.PhotoHash, "hash", "measure"),
        (lossless.Bits, "_measures", "measure"),
        (measure, "measures", "measure"),
    ]
    with ExitStack() as stack:
        for owner, name, stage in targets:
            stack.enter_context(patch.object(owner, name, meter.around(stage, getattr(owner, name))))
        yield


def stages(order: dict[str, Any], fields: dict[str, Any]) -> dict[str, float]:
    """Return the ms of CPU of each stage for the mean photo, without the commit."""
    from fugue_jobs.fetching.fetch import Fetcher
    from fugue_jobs.imaging.canvas import Canvas
    from fugue_jobs.pool.storing import CropStore
    from fugue_jobs.rows import Ended, crop_rows, in_order, read_images

    job = crop_job(order["store"], order["endpoint"])
    canvas, store = Canvas(), CropStore(job.store)
    found: dict[str, list[dict[str, float]]] = {}
    with Fetcher(job.fetch, job.store) as fetcher:
        for _ in range(ROUNDS):
            meter = Meter()
            with meter.stage("rows"):
                works = list(read_images([joined(order["images"], fields)]))
            reading = meter.seconds["rows"] / len(works)
            ended = []
            for image, work in works:
                meter.seconds.clear()
                with metered(meter):
                    outcome = one_photo(meter, work, fetcher, job.pictures, canvas, store)
                meter.seconds["walk"] += (walked := walk_s(work, fetcher)) if not fields else 0.0
                meter.seconds["decode"] -= walked if not fields else 0.0
                with meter.stage("rows"):
                    ended.append(Ended(image, outcome))
                meter.seconds["rows"] += reading
                found.setdefault(work.image_id, []).append(dict(meter.seconds))
            started = time.thread_time()
            in_order(crop_rows(ended))
            writing = (time.thread_time() - started) / len(ended)
            for times in found.values():
                times[-1]["rows"] += writing
    sums: Counter[str] = Counter()
    for times in found.values():
        for stage in STAGES:
            sums[stage] += min(one.get(stage, 0.0) for one in times)
    return {stage: 1e3 * sums[stage] / len(found) for stage in STAGES}


def one_photo(meter: Meter, work: Any, fetcher: Any, limits: Any, canvas: Any, store: Any) -> Any:
    """Cut one photo as a crop process does."""
    from fugue_jobs.imaging.decode import open_photo
    from fugue_jobs.imaging.photo_hash import PhotoHash
    from fugue_jobs.imaging.pixels import cut
    from fugue_jobs.work import ImageOutcome

    with meter.stage("fetch"):
        fetched = fetcher.fetch(work.url)
    started = time.thread_time()
    hashlib.sha256(fetched.data).hexdigest()
    hashed = time.thread_time() - started
    meter.seconds["fetch"] -= hashed
    meter.seconds["hash"] += hashed
    crops = []
    with meter.stage("cut"):
        photo = open_photo(fetched.data, limits)
        photo_hash = PhotoHash(work)
        for piece in cut(photo, work, limits, lambda: None, canvas):
            photo_hash.add(piece.outcome, piece.sample, photo.upright_size)
            crops.append(store.put(work, "budget", piece.outcome, piece.data))
        phash = photo_hash.hash()
    width, height = photo.upright_size
    return ImageOutcome(crops, width, height, fetched.sha256, len(fetched.data), photo.decoder, phash)


def walk_s(work: Any, fetcher: Any) -> float:
    """Return the seconds of the walk alone: of opening the bits, less the copies that it does not make."""
    try:
        from cropline_regions import Pieces
    except ImportError:
        return 0.0
    data = fetcher.fetch(work.url).data

    with Image.open(io.BytesIO(data)) as photo:
        bottom = min(photo.height, round(max(box.ymax for box in work.boxes) * photo.height) + 4)
    started = time.thread_time()
    Pieces(data, bottom)
    return time.thread_time() - started


def joined(ordered: list[Any], fields: dict[str, Any]) -> pa.Table:
    """Return schemas.IMAGES rows, as the engine's script joins them."""
    images, claims = tables(ordered, fields)
    rows = [
        image | {"work": claim["work"]} for image, claim in zip(images.to_pylist(), claims.to_pylist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES)


def commit_ms(folder: Path) -> float:
    """Return the ms of CPU of a photo's registration, claim and commit, and of its rows in the catalogue."""
    from benchmarks.control_path import Clock, append, commit, crop_rows, register
    from benchmarks.state import open_state
    from cropline.catalogue import Catalogue
    from cropline.core.store_spec import StoreSpec

    clock, catalogue = Clock(), Catalogue(StoreSpec(folder.as_uri()))
    taken = []
    with open_state(f"sqlite:///{folder}/state.db") as state:
        for number in range(ROUNDS + 1):
            started = time.process_time()
            register(state, clock, range(number * BATCH, (number + 1) * BATCH))
            batch = state.claim(limit=BATCH, owner="budget", source="cams")
            assert batch is not None
            prepared = time.process_time() - started
            rows = crop_rows(batch)
            started = time.process_time()
            append(catalogue, batch, rows)
            commit(state, batch)
            taken.append(prepared + time.process_time() - started)
    return 1e3 * min(taken[1:]) / BATCH


class Whole(NamedTuple):
    """The ms of CPU of the whole job, of all its processes: of one more photo, and of the job itself."""

    photo: float
    job: float

    @property
    def share(self) -> float:
        """The job's ms as part of a photo of a batch."""
        return self.job / BATCH


def whole_ms(bed: Bed, **options: Any) -> Whole:
    """Measure jobs of two sizes. Of few photos, what the job itself costs would be a tenth of each."""
    few = PHOTOS // 4
    with worker("benchmarks.whole_job") as ours:
        ours.ask(bed.order(few) | options)
        small, large = (
            1e3 * min(ours.ask(bed.order(count) | options)["cpu_s"] for _ in range(ROUNDS)) for count in (few, PHOTOS)
        )
    photo = (large - small) / (PHOTOS - few)
    return Whole(photo, max(0.0, large - PHOTOS * photo))


def report(native: dict[str, float], lossless: dict[str, float], whole: dict[str, Whole]) -> dict[str, float]:
    for stages_, of_job in ((native, whole["native"]), (lossless, whole["lossless"])):
        pool = max(0.0, of_job.photo - sum(stages_[stage] for stage in STAGES if stage != "commit"))
        stages_ |= {"pool": pool, "job": of_job.share}
    everything, copied = sum(native.values()), sum(lossless.values())
    print(f"{'stage':<10}{'ms':>8}{'share':>8}{'lossless ms':>14}{'share':>8}")
    for stage, ms in native.items():
        print(f"{stage:<10}{ms:>8.2f}{ms / everything:>8.1%}{lossless[stage]:>14.2f}{lossless[stage] / copied:>8.1%}")
    other = sum(ms for stage, ms in native.items() if stage not in NEEDED)
    print(f"{'all':<10}{everything:>8.2f}{'':>8}{copied:>14.2f}")
    print(f"not fetch, walk, decode, encode, hash or store: {other / everything:.1%}", flush=True)
    figures = {f"{stage}_ms": ms for stage, ms in native.items()}
    figures |= {f"{stage}_share": ms / everything for stage, ms in native.items()}
    figures |= {f"lossless_{stage}_ms": ms for stage, ms in lossless.items()}
    figures |= {"whole_ms": everything, "lossless_whole_ms": copied, "other_share": other / everything}
    return {name: round(value, 4) for name, value in figures.items()}


def report_spark(of_native: Whole, of_spark: Whole) -> dict[str, float]:
    native, spark = of_native.photo + of_native.share, of_spark.photo + of_spark.share
    engine = spark - native
    print(f"Spark, local[2]: {spark:.2f} ms, of which {engine:.2f} are its own ({engine / spark:.1%})")
    figures = {"spark_ms": spark, "engine_ms": engine, "engine_share": engine / spark}
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    photos = draw_bed(PHOTOS)
    with scratch() as folder:
        out, sink = folder / "out", folder / "sink"
        out.mkdir()
        sink.mkdir()
        with serve(photos[0].path.parent, sink) as (_, address):
            bed = Bed(photos, address, out)
            copies: dict[str, Any] = {"lossless": True}
            native, lossless = (stages(bed.order(PHOTOS), fields) for fields in ({}, copies))
            native["commit"] = lossless["commit"] = commit_ms(folder)
            whole = {"native": whole_ms(bed), "lossless": whole_ms(bed, profile=copies)}
            figures = report(native, lossless, whole)
            if os.environ.get("SPARK", "1") != "0":
                figures |= report_spark(whole["native"], whole_ms(bed, engine="spark"))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
