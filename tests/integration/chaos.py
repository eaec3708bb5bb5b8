"""Random kills over many images: the run is killed at a random moment, again and again, until nothing waits.

    python -m tests.integration.chaos [KILLS] [IMAGES] [SEED]

Its last line is ``lost=0 duplicated=0 orphaned=0 kills=N seed=S``; it exits with 1 when a count is off. What is right is
counted here from the camera API's own list, the files and the Delta log's Parquet, with none of the product's code.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import requests
from deltalake import DeltaTable

from demo.server import DemoServer

POLL = [sys.executable, "-c", "from flows.poll import poll; poll()"]


@dataclass(frozen=True)
class Tally:
    """What an undisturbed end would have none of."""

    lost: int
    duplicated: int
    orphaned: int
    unfinished: int

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.orphaned or self.unfinished)


def environment(api: DemoServer, folder: Path, server: str) -> dict[str, str]:
    """Settings with short leases, so that a killed run's batch is soon resumed."""
    return os.environ | {
        "PREFECT_API_URL": server,
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "CROPLINE_API__SOURCE": "chaos",
        "CROPLINE_API__URL": api.base_url,
        "CROPLINE_API__TOKEN": api.token,
        "CROPLINE_FETCH__ALLOW_LOOPBACK": "true",
        "CROPLINE_STORAGE__URL": (folder / "output").as_uri(),
        "CROPLINE_STATE__URL": f"sqlite:///{folder / 'state.db'}",
        "CROPLINE_STATE__LEASE_S": "1",
        "CROPLINE_BATCH__IMAGES": "20",
    }


def kill_at_random(settings: dict[str, str], chance: random.Random, longest_s: float) -> bool:
    """Start a poll, kill it after a random while; False when it had ended by itself."""
    run = subprocess.Popen(POLL, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        run.wait(timeout=chance.uniform(0.5, longest_s))
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
        run.wait()
        return True
    return False


def finish(settings: dict[str, str]) -> None:
    """Poll until one ends by itself and leaves nothing to do."""
    for _ in range(20):
        subprocess.run(POLL, env=settings, check=True, capture_output=True, timeout=600)
        path = settings["CROPLINE_STATE__URL"].removeprefix("sqlite:///")
        with sqlite3.connect(path) as database:
            waiting = database.execute("SELECT count(*) FROM images WHERE state <> 'done'").fetchone()[0]
        database.close()
        if not waiting:
            return
        time.sleep(0.2)  # the killed run's lease ends


def tally(api: DemoServer, folder: Path) -> Tally:
    """Compare what the API lists with what lies there."""
    wanted = Counter((row["id"], box["id"]) for row in api.control.images() for box in row["boxes"])
    rows = DeltaTable(str(folder / "output" / "catalogue")).to_pyarrow_table().to_pylist()
    held = Counter((row["image_id"], row["box_id"]) for row in rows if row["status"] == "written")
    keys = Counter(row["key"] for row in rows if row["status"] == "written")
    output = folder / "output"
    files = {str(path.relative_to(output)) for path in (output / "crops").rglob("*") if path.is_file()}
    database = sqlite3.connect(folder / "state.db")
    unfinished = database.execute("SELECT count(*) FROM images WHERE state <> 'done'").fetchone()[0]
    database.close()
    missing_files = sum(1 for key in keys if key not in files)
    return Tally(
        lost=(wanted - held).total() + missing_files,
        duplicated=(held - wanted).total() + sum(count - 1 for count in keys.values()),
        orphaned=len(files - set(keys)),
        unfinished=unfinished,
    )


def chaos(kills: int, images: int, seed: int, server: str, folder: Path) -> Tally:
    """Kill ``kills`` times, finish, count."""
    chance = random.Random(seed)
    print(f"seed={seed} kills={kills} images={images}", flush=True)
    with DemoServer(photos=max(1, images // 2), megapixels=0.2, cache_dir=folder / "photos") as api:
        settings = environment(api, folder, server)
        done, added = 0, len(api.control.images())
        for turn in range(kills * 4):
            if done == kills:
                break
            done += kill_at_random(settings, chance, longest_s=6.0)
            if added < images and turn % 2:  # new photos while runs die
                more = min(images - added, max(1, images // kills))
                api.control.advance(photos=more)
                added += more
        finish(settings)
        result = tally(api, folder)
    print(
        f"lost={result.lost} duplicated={result.duplicated} orphaned={result.orphaned} kills={done} seed={seed}",
        flush=True,
    )
    return result


def main() -> None:
    """The long form."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    kills, images, seed = (
        int(value) for value in [*sys.argv[1:], *("200", "500", str(int(time.time())))[len(sys.argv) - 1 :]]
    )
    with tempfile.TemporaryDirectory() as name, prefect_test_harness(server_startup_timeout=120):
        requests.get(PREFECT_API_URL.value() + "/health", timeout=10).raise_for_status()
        result = chaos(kills, images, seed, PREFECT_API_URL.value(), Path(name))
    if result.unfinished:
        print(f"{result.unfinished} images are not done")
    raise SystemExit(not result.clean)


if __name__ == "__main__":
    main()
