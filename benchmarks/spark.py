"""The same job on Spark and in process, and the start-up cost of each engine. Writes results/spark.json:

spark_vs_native   crops/s on Spark local[2] / crops/s of the native engine with two crop processes, in turns in one run
native_crops_per_s, spark_crops_per_s   the two values
startup_NAME_s    a first batch of one small photo in a new process, with imports and session: native, duckdb, spark
                  (local[2]), cluster (standalone, two one-core workers), connect (its server runs already), dask and ray
                  (their workers start too) where they are installed
batch_NAME_s      a second such batch in the same process: the cost of a batch besides its photos
worth_spark_images  backlog from which a cluster with twice this machine's cores is faster, start-up included; decides
                  CROPLINE_ENGINE__AUTO__IMAGES

session_check_NAME_ms   asking a kept session before a batch, the median of 50: spark, cluster, connect, dask; at most 50
session_check_ms  the largest of them
recover_NAME_s    a batch of one small photo after the cluster was restarted (spark: its JVM killed), session included
recover_s         the largest of them

driver_peak_mb, driver_growth   memory of the process that drives a batch, and what a backlog adds to it: driver.py

``PHOTOS`` (1000) photos of the bed, 2.6 MB with 37 boxes each; ``ROUNDS`` (2), the best counts. ``PART=startups``,
``PART=rates``, ``PART=restarts`` or ``PART=driver`` measures one part and keeps the file's other values.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.bed import BedPhoto, draw_bed, serve
from benchmarks.driver import memory
from benchmarks.whole_job import crop_job, tables
from tests.contract.spark_servers import Restartable, connect_server, python_without_cropline, standalone_cluster
from tests.contract.task_servers import dask_cluster

PHOTOS = int(os.environ.get("PHOTOS", "1000"))
ROUNDS = int(os.environ.get("ROUNDS", "2"))
PART = os.environ.get("PART", "")  # not ONLY: make hands that on, and it names the benchmark
DRAWN = 64
RESULT = Path(__file__).parent / "results" / "spark.json"


def main() -> None:
    if sys.argv[1:]:
        serve_jobs(json.loads(sys.argv[1]))
        return
    photos = draw_bed(DRAWN)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        (folder / "sink").mkdir()
        _, address = stack.enter_context(serve(photos[0].path.parent, folder / "sink"))
        bed = (address, photos, folder / "out")
        figures: dict[str, float] = json.loads(RESULT.read_text()) if PART and RESULT.exists() else {}
        for name, measure in (("startups", startups), ("rates", rates), ("restarts", restarts), ("driver", driver)):
            if PART in ("", name):
                figures |= measure(bed, folder)
                keep(figures, len(photos[0].boxes))
    for name, value in figures.items():
        print(f"{name:<24}{value:>12}")


def keep(figures: dict[str, float], boxes: int) -> None:
    """Write the results so far."""
    if "spark_vs_native" in figures and "startup_cluster_s" in figures:
        batch = figures["native_crops_per_s"] / boxes
        # t(native) = n / rate; t(twice the cores) = startup + n / (2 * rate * ratio)
        gain = 1 - 1 / (2 * figures["spark_vs_native"])
        figures["worth_spark_images"] = figures["startup_cluster_s"] * batch / gain if gain > 0 else float("inf")
    for name, value in figures.items():
        figures[name] = round(value, 3)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")


Bed = tuple[str, list[BedPhoto], Path]


def startups(bed: Bed, folder: Path) -> dict[str, float]:
    """Run the first and the second small batch of each engine, each in a separate process."""
    found: dict[str, float] = {}
    python = python_without_cropline(folder / "python")
    installed = [kind for kind, package in (("dask", "distributed"), ("ray", "ray")) if find_spec(package)]
    for name in ("native", "duckdb", "spark", "cluster", "connect", *installed):
        with ExitStack() as stack:
            home = folder / name
            home.mkdir()
            engine: dict[str, Any] = {"kind": {"cluster": "spark", "connect": "spark-connect"}.get(name, name)}
            if name == "cluster":
                cluster = stack.enter_context(standalone_cluster(home, python))
                engine |= {"master": cluster.master, "spark": {"python": str(python), "max_executors": 2}}
            elif name == "connect":
                engine["connect"] = {"url": stack.enter_context(connect_server(home, python))}
            with Jobs(engine) as jobs:
                found[f"startup_{name}_s"] = jobs.since_start(order(bed, 1, f"{name}-0", boxes=1))
                found[f"batch_{name}_s"] = jobs.ask(order(bed, 1, f"{name}-1", boxes=1))
    return found


def rates(bed: Bed, _folder: Path) -> dict[str, float]:
    """Return crops/s of both engines, in turns, after a first batch that starts them."""
    crops = PHOTOS * len(bed[1][0].boxes)
    best: dict[str, float] = {}
    with Jobs({"kind": "native"}) as native, Jobs({"kind": "spark", "master": "local[2]"}) as spark:
        for number in range(ROUNDS + 1):
            for name, jobs in (("native", native), ("spark", spark)):
                rate = jobs.ask(order(bed, PHOTOS if number else 8, f"{name}-rate-{number}"))
                if number:
                    best[name] = max(best.get(name, 0), crops / rate)
    return {
        "spark_vs_native": best["spark"] / best["native"],
        "native_crops_per_s": best["native"],
        "spark_crops_per_s": best["spark"],
        "photos": PHOTOS,
        "rounds": ROUNDS,
    }


def restarts(bed: Bed, folder: Path) -> dict[str, float]:
    """Return the time of a check of a kept session, and of the first batch after a restart, for each engine."""
    found: dict[str, float] = {}
    python = python_without_cropline(folder / "python-restarts")
    names = ("spark", "cluster", "connect", *(["dask"] if find_spec("distributed") else []))
    for name in names:
        home = folder / f"restarts-{name}"
        home.mkdir()
        with ExitStack() as stack:
            engine, restart = restartable(name, home, python, stack)
            jobs = stack.enter_context(Jobs(engine))
            jobs.ask(order(bed, 1, f"restarts-{name}-0", boxes=1))
            found[f"session_check_{name}_ms"] = jobs.ask({"checks": 50}) * 1_000
            if restart is None:
                jobs.ask({"kill_jvm": True})
            else:
                restart()
            found[f"recover_{name}_s"] = jobs.ask(order(bed, 1, f"restarts-{name}-1", boxes=1))
    found["session_check_ms"] = max(found[f"session_check_{name}_ms"] for name in names)
    found["recover_s"] = max(found[f"recover_{name}_s"] for name in names)
    return found


def restartable(
    name: str, home: Path, python: Path, stack: ExitStack
) -> tuple[dict[str, Any], Callable[[], None] | None]:
    """Return an engine and what restarts its servers; None for a JVM of the measuring process."""
    if name == "spark":
        return {"kind": "spark"}, None
    if name == "cluster":
        cluster = stack.enter_context(standalone_cluster(home, python, workers=1))
        spark = {"python": str(python), "max_executors": 1}
        return {"kind": "spark", "master": cluster.master, "spark": spark}, cluster.restart_master
    start = {"connect": connect_server, "dask": dask_cluster}[name]
    server = Restartable(lambda port: start(home, python, port=port))
    stack.callback(server.stop)
    if name == "dask":
        return {"kind": "dask", "dask": {"scheduler": server.address}}, server.restart
    return {"kind": "spark-connect", "connect": {"url": server.address}}, server.restart


def driver(bed: Bed, folder: Path) -> dict[str, float]:
    """See driver.py."""
    return memory(bed[0], bed[1][0], folder)


def order(bed: Bed, count: int, prefix: str, boxes: int = 1_000) -> dict[str, Any]:
    """Return a job of ``count`` photos. Image ids are new each time, so that no file is overwritten."""
    address, photos, out = bed
    chosen = [photos[number % len(photos)] for number in range(count)]
    return {
        "store": out.as_uri(),
        "images": [
            (f"{prefix}-{number}", f"{address}/photos/{photo.path.name}", photo.boxes[:boxes])
            for number, photo in enumerate(chosen)
        ],
    }


class Jobs:
    """A process that runs ordered jobs on one engine."""

    def __init__(self, engine: dict[str, Any]) -> None:
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.spark", json.dumps(engine)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=120)

    def ask(self, job: dict[str, Any]) -> float:
        """Return the seconds of the job."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a measuring process ended")
        return float(answer)

    def since_start(self, job: dict[str, Any]) -> float:
        """Return the seconds from the start of the process to the end of the job."""
        self.ask(job)
        return time.monotonic() - self._began


def serve_jobs(engine: dict[str, Any]) -> None:
    from cropline.config.settings import EngineSettings
    from cropline.core.schemas import STORES
    from fugue_jobs.engines.run import DISTRIBUTED, run_crop_job, stop_engines

    settings = EngineSettings.model_validate(engine)
    for line in sys.stdin:
        job = json.loads(line)
        if "images" not in job:
            print(_asked(job), flush=True)
            continue
        images, claims = tables(job["images"])
        started = time.monotonic()
        crops = run_crop_job(
            images,
            claims,
            STORES.empty_table(),
            # Two processes in total: on a cluster a slot is one.
            crop_job_of(job["store"], 1 if settings.kind in DISTRIBUTED else 2),
            settings,
        )
        seconds = time.monotonic() - started
        if set(crops["status"].to_pylist()) != {"written"}:
            raise RuntimeError("not every crop was written")
        print(seconds, flush=True)
    stop_engines()


def _asked(job: dict[str, Any]) -> float:
    """Kill this process's JVM, or return the median seconds of a check of the kept session."""
    from fugue_jobs.engines import sessions

    if "kill_jvm" in job:
        from pyspark import SparkContext

        SparkContext._gateway.proc.kill()
        return 0.0
    kept = sessions._keeper.kept
    if kept is None:
        raise RuntimeError("no session is kept")
    seconds = []
    for _ in range(job["checks"]):
        began = time.perf_counter()
        sessions._check(kept.cluster)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def crop_job_of(store: str, processes: int) -> Any:
    from dataclasses import replace

    return replace(crop_job(store, None), processes=processes)


if __name__ == "__main__":
    main()
