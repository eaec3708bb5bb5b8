"""The crop engine against plain code and against the floor. Writes results/crop_engine.json:

vs_plain        crops/s of the whole job / crops/s of the plain code (a sample of photos, scaled by the crop)
vs_pool         the same / the plain code in a multiprocessing pool of 2 (also a sample)
vs_floor        seconds of the floor / seconds of the whole job; the floor decodes, crops and encodes the photos from
                memory in two processes, without network or files
one_box_vs_floor  the same with one box per photo
s3_vs_plain     as vs_plain, with crops going by PUT to an S3-compatible sink; the plain code uses boto3's put_object
crops_per_s     of the whole job, crops going to files (bed.py: scratch)
peak_rss_mb     this job's process and its crop processes together, 640 photos, the sum of their peaks
rss_growth      the same / that for 64 photos
first_batch_vs_floor  vs_floor of a process's first batch, which also starts Fugue; its crop processes were started WARM_S
                      before it, as a poll does before it validates its first manifest

Decoding only what boxes need (cropline-regions; 0 where it is not installed). Shelf boxes (bed.py: shelf_boxes) stand in
four rows, like products. The bed's own boxes are anywhere, so that nearly every row of a photo is in one of them.

regions_37_vs_pillow, regions_5_.., regions_1_..  CPU of Pillow's decode / CPU of decoding what so many shelf boxes need
regions_37_anywhere_vs_pillow  the same with the bed's own boxes
job_37_vs_floor, job_1_vs_floor  as vs_floor, with 37 shelf boxes per photo and with one
peak_rss_one_mb, peak_rss_one_pillow_mb  the job with one shelf box on 64 photos; the same without cropline-regions

Lossless crops (a profile with lossless: true), which are copied out of the photo's bits; 0 without cropline-regions:

lossless_vs_default  seconds of the whole job by the default profile / by the lossless one, in turns, the bed's boxes
lossless_shelf_vs_default  the same with shelf boxes
lossless_vs_plain  as vs_plain, by the lossless profile
lossless_bytes  bytes of the lossless crops / bytes of the default ones

The whole job is run_crop_job through Fugue's native engine, two crop processes, default profile. Methods are measured
in turns in one run; the best round of each counts, since other load only slows things down.

``ROUNDS`` (7), ``PHOTOS`` (64). ``PART=jobs``, ``first``, ``rss``, ``regions`` or ``lossless`` measures one part and keeps the file's other
values: jobs has crops_per_s, vs_ and s3_, first has first_batch_. Quiet, lossless takes a minute, as first does; all take
four or five.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import crop_ways
from benchmarks.bed import BedPhoto, draw_bed, scratch, serve, shelf_boxes

PHOTOS = int(os.environ.get("PHOTOS", "64"))
WARM_S = 1.0  # a first poll lands and validates for about this long
MANY = 10 * PHOTOS
SAMPLE = 2  # photos whose boxes are all cut by the plain code
ROUNDS = int(os.environ.get("ROUNDS", "7"))
PART = os.environ.get("PART", "")
RESULT = Path(__file__).parent / "results" / "crop_engine.json"
# Credentials for the S3 sink, which checks nothing.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}


class Worker:
    """A process that measures on request: JSON lines in, JSON lines out."""

    def __init__(self, *command: str, path: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({"PYTHONPATH": str(path)} if path else {}),
        )

    def tell(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def ask(self, message: Any) -> Any:
        assert self._process.stdout is not None
        self.tell(message)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a measuring process ended")
        return json.loads(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


@contextmanager
def worker(*command: str, path: Path | None = None) -> Iterator[Worker]:
    running = Worker(*command, path=path)
    try:
        yield running
    finally:
        running.close()


class Bed:
    """The photos, their server, and the orders for each measurement."""

    def __init__(self, photos: list[BedPhoto], address: str, out: Path) -> None:
        self.photos, self.address, self.out = photos, address, out
        self._round = 0

    def order(
        self,
        count: int = PHOTOS,
        boxes: int = 1_000,
        store: str | None = None,
        shelf: bool = False,
        lossless: bool = False,
    ) -> dict[str, Any]:
        """Return a whole job. Its image ids are new each time, so that no file is overwritten."""
        self._round += 1
        chosen = [self.photos[number % len(self.photos)] for number in range(count)]
        return {
            "store": store or self.out.as_uri(),
            "endpoint": self.address if store else None,
            "profile": {"lossless": lossless},
            "images": [
                (
                    f"{self._round}-{number}",
                    f"{self.address}/photos/{photo.path.name}",
                    (shelf_boxes(photo) if shelf else photo.boxes)[:boxes],
                )
                for number, photo in enumerate(chosen)
            ],
        }

    def boxes(self, each: int = 1_000) -> list[Any]:
        return [photo.boxes[:each] for photo in self.photos]

    def shelf(self, each: int = 1_000) -> list[Any]:
        return [shelf_boxes(photo)[:each] for photo in self.photos]

    @property
    def crops(self) -> int:
        """The crops of a whole job."""
        return PHOTOS * len(self.photos[0].boxes)

    @cached_property
    def plain_rate(self) -> float:
        """Crops/s of the plain code. Measured once."""
        tasks = self.sample(f"{self.out}/plain-")
        return len(tasks) / min(crop_ways.plain(tasks) for _ in range(2))

    def sample(self, prefix: str) -> list[tuple[str, crop_ways.Box, str]]:
        return [
            (f"{self.address}/photos/{photo.path.name}", box, f"{prefix}{number}-{index}.jpg")
            for number, photo in enumerate(self.photos[:SAMPLE])
            for index, box in enumerate(photo.boxes)
        ]


def main() -> None:
    parts = {"jobs": jobs, "first": first, "rss": rss, "regions": measure_regions, "lossless": measure_lossless}
    if PART not in ("", *parts):
        raise SystemExit(f"PART is one of {', '.join(parts)}, not {PART}")
    os.environ.update(CREDENTIALS)
    photos = draw_bed(PHOTOS)
    figures: dict[str, Any] = json.loads(RESULT.read_text()) if PART and RESULT.exists() else {}
    with scratch() as folder, ExitStack() as stack:
        out, sink = folder / "out", folder / "sink"
        out.mkdir()
        sink.mkdir()
        server, address = stack.enter_context(serve(photos[0].path.parent, sink))
        bed = Bed(photos, address, out)
        for name, part in parts.items():
            if PART in ("", name):
                figures |= {figure: round(value, 3) for figure, value in part(bed, folder).items()} | {"server": server}
                keep(figures)
    report(figures, photos)


def jobs(bed: Bed, _folder: Path) -> dict[str, float]:
    """Return what whole jobs take against the floor and the plain code."""
    taken: dict[str, list[float]] = {}
    with worker("benchmarks.crop_ways", "floor") as floor, worker("benchmarks.whole_job") as ours:
        floor.tell([str(photo.path) for photo in bed.photos])
        ours.ask(bed.order(4))
        for _ in range(ROUNDS):
            taken.setdefault("floor", []).append(floor.ask(bed.boxes()))
            taken.setdefault("ours", []).append(ours.ask(bed.order())["seconds"])
            taken.setdefault("floor_one", []).append(floor.ask(bed.boxes(1)))
            taken.setdefault("ours_one", []).append(ours.ask(bed.order(boxes=1))["seconds"])
    with worker("benchmarks.whole_job") as ours:
        ours.ask(bed.order(4, store="s3://sink"))
        taken["s3"] = [ours.ask(bed.order(store="s3://sink"))["seconds"] for _ in range(3)]
    taken["pool"] = [crop_ways.pooled(bed.sample(f"{bed.out}/pool-")) for _ in range(2)]
    taken["plain_s3"] = [crop_ways.plain_s3(bed.sample("plain/"), bed.address) for _ in range(2)]
    seconds = {way: min(times) for way, times in taken.items()}
    sampled = len(bed.sample(""))
    rate = bed.crops / seconds["ours"]
    return {
        "vs_plain": rate / bed.plain_rate,
        "vs_pool": rate * seconds["pool"] / sampled,
        "vs_floor": seconds["floor"] / seconds["ours"],
        "one_box_vs_floor": seconds["floor_one"] / seconds["ours_one"],
        "s3_vs_plain": bed.crops / seconds["s3"] * seconds["plain_s3"] / sampled,
        "crops_per_s": rate,
    } | {f"{way}_s": value for way, value in seconds.items()}


def first(bed: Bed, _folder: Path) -> dict[str, float]:
    """Return what the first batch of a process takes against the floor."""
    pairs: list[tuple[float, float]] = []
    with worker("benchmarks.crop_ways", "floor") as floor:
        floor.tell([str(photo.path) for photo in bed.photos])
        for _ in range(ROUNDS):
            alone = floor.ask(bed.boxes())
            with worker("benchmarks.whole_job") as ours:
                pairs.append((alone, ours.ask(bed.order() | {"warm_s": WARM_S})["seconds"]))
    least_floor, least_first = (min(times) for times in zip(*pairs, strict=True))
    return {"first_batch_vs_floor": least_floor / least_first, "first_s": least_first}


def rss(bed: Bed, _folder: Path) -> dict[str, float]:
    """Return the peak memory of a long job, and how it grows."""
    few, many = (peak_rss_mb(bed.order(count)) for count in (PHOTOS, MANY))
    return {"peak_rss_mb": many, "rss_growth": many / few}


def measure_regions(bed: Bed, folder: Path) -> dict[str, float]:
    """Return what decoding only what boxes need saves, as ratios."""
    figures: dict[str, float] = {}
    names = [str(photo.path) for photo in bed.photos[:16]]
    with worker("benchmarks.decode_ways") as decoder:
        ways = {"37": bed.shelf(), "5": bed.shelf(5), "1": bed.shelf(1), "37_anywhere": bed.boxes()}
        for way, boxes in ways.items():
            cpu = decoder.ask(list(zip(names, boxes[: len(names)], strict=True)))
            figures[f"regions_{way}_vs_pillow"] = cpu["pillow"] / cpu["regions"] if cpu["regions"] else 0.0
    with worker("benchmarks.crop_ways", "floor") as floor, worker("benchmarks.whole_job") as ours:
        floor.tell([str(photo.path) for photo in bed.photos])
        ours.ask(bed.order(4))
        for each in (37, 1):
            pairs = [
                (floor.ask(bed.shelf(each)), ours.ask(bed.order(boxes=each, shelf=True))["seconds"])
                for _ in range(ROUNDS)
            ]
            least = [min(times) for times in zip(*pairs, strict=True)]
            figures[f"job_{each}_vs_floor"] = least[0] / least[1]
    hidden = folder / "hidden"
    hidden.mkdir()
    (hidden / "cropline_regions.py").write_text("raise ModuleNotFoundError('hidden by the benchmark')\n")
    figures["peak_rss_one_mb"] = peak_rss_mb(bed.order(boxes=1, shelf=True))
    figures["peak_rss_one_pillow_mb"] = peak_rss_mb(bed.order(boxes=1, shelf=True), hidden)
    return figures


def measure_lossless(bed: Bed, _folder: Path) -> dict[str, float]:
    """Return what copied crops save against encoded ones, and how many bytes more they have."""
    if find_spec("cropline_regions") is None:
        names = ("lossless_vs_default", "lossless_shelf_vs_default", "lossless_vs_plain", "lossless_bytes")
        return dict.fromkeys(names, 0.0)
    ways = {
        "default": bed.order,
        "lossless": partial(bed.order, lossless=True),
        "default_shelf": partial(bed.order, shelf=True),
        "lossless_shelf": partial(bed.order, shelf=True, lossless=True),
    }
    with worker("benchmarks.whole_job") as ours:
        ours.ask(bed.order(4))
        rounds = [{way: ours.ask(order()) for way, order in ways.items()} for _ in range(ROUNDS)]
    least = {way: min(each[way]["seconds"] for each in rounds) for way in ways}
    return {
        "lossless_vs_default": least["default"] / least["lossless"],
        "lossless_shelf_vs_default": least["default_shelf"] / least["lossless_shelf"],
        "lossless_vs_plain": bed.crops / least["lossless"] / bed.plain_rate,
        "lossless_bytes": rounds[0]["lossless"]["bytes"] / rounds[0]["default"]["bytes"],
    }


def peak_rss_mb(order: dict[str, Any], path: Path | None = None) -> float:
    """Return the peak memory of a new process that runs this one job."""
    with worker("benchmarks.whole_job", path=path) as ours:
        return float(ours.ask(order)["peak_rss_mb"])


def keep(figures: dict[str, Any]) -> None:
    """Write the results so far."""
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")


def report(figures: dict[str, Any], photos: list[BedPhoto]) -> None:
    boxes = len(photos[0].boxes)
    megabytes = sum(photo.path.stat().st_size for photo in photos) / len(photos) / 1e6
    print(f"{PHOTOS} photos of {megabytes:.1f} MB, {boxes} boxes each, best of {ROUNDS} rounds;")
    print(f"plain and pool: {SAMPLE * boxes} crops each, scaled by the crop")
    for name, value in figures.items():
        print(f"{name:<28}{value:>12}")


if __name__ == "__main__":
    main()
