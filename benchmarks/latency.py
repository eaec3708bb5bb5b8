"""Watching: the time from a photo's appearance in the API to its crops in the catalogue, and the cost of an idle poll.

One new photo per second, 8-12 MP with its boxes, from the simulated cameras. ``cropline watch`` runs in a separate
process with its own Prefect server, SQLite and local files. A photo appears when the API has confirmed that it lists
it. Its crops are there when the commit's file is in the catalogue's log.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from demo.server import DemoServer

PHOTOS, WARM_UP = 40, 5
RATE_S = 1.0
IDLE_S = 20
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="cropline-latency-") as name:
        folder = Path(name)
        _draw_ahead(folder)
        with DemoServer(photos=4, cache_dir=folder / "photos") as api, _watch(api, folder) as process:
            _until_catalogued(process, folder, 4)
            idle = _idle_cpu(process)
            appeared = _appear(api)
            committed = _until_catalogued(process, folder, 4 + PHOTOS + WARM_UP)
    waits = sorted(committed[image] - moment for image, moment in list(appeared.items())[WARM_UP:])
    result = {
        "p50_s": round(median(waits), 3),
        "p95_s": round(waits[int(len(waits) * 0.95)], 3),
        "worst_s": round(waits[-1], 3),
        "idle_cycle_cpu_s": round(idle, 4),
        "photos": len(waits),
    }
    for key, value in result.items():
        print(f"{key:<18} {value}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latency.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _draw_ahead(folder: Path) -> None:
    """Draw the photos that will appear: drawing takes longer than anything measured here."""
    with DemoServer(photos=4, cache_dir=folder / "photos") as api:
        api.control.advance(photos=PHOTOS + WARM_UP)


class _watch:  # noqa: N801 - a context manager
    """Runs the command with a user's settings; its log is in the folder."""

    def __init__(self, api: DemoServer, folder: Path) -> None:
        self._folder = folder
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(("CROPLINE_", "PREFECT_"))} | {
            "CROPLINE_API__SOURCE": "cams",
            "CROPLINE_API__URL": api.base_url,
            "CROPLINE_API__TOKEN": api.token,
            "CROPLINE_FETCH__ALLOW_LOOPBACK": "true",
            "CROPLINE_STORAGE__URL": (folder / "output").as_uri(),
            "CROPLINE_STATE__URL": f"sqlite:///{folder / 'state.db'}",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }  # fmt: skip

    def __enter__(self) -> subprocess.Popen[bytes]:
        log = (self._folder / "watch.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from cropline.cli import main; main()", "watch", "--minutes", "30", "--verbose"],
            env=self._environment, stdout=log, stderr=log,
        )  # fmt: skip
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _idle_cpu(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU seconds of the watching process per idle poll."""
    time.sleep(3)
    before = _cpu(process.pid)
    time.sleep(IDLE_S)
    return (_cpu(process.pid) - before) / IDLE_S


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _appear(api: DemoServer) -> dict[str, float]:
    """Add one photo per second. Return image id -> when the API had it."""
    appeared: dict[str, float] = {}
    start = time.monotonic()
    for number in range(PHOTOS + WARM_UP):
        time.sleep(max(0.0, start + number * RATE_S - time.monotonic()))
        added, _ = api.control.advance(photos=1)
        appeared |= dict.fromkeys(added, time.time())
    return appeared


def _until_catalogued(process: subprocess.Popen[bytes], folder: Path, images: int) -> dict[str, float]:
    """Wait for this many images. Return image id -> when its commit was in the log."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        found = _catalogued(folder)
        if len(found) >= images:
            return found
        time.sleep(0.5)
    raise SystemExit(
        f"{len(_catalogued(folder))} of {images} images came; {(folder / 'watch.log').read_text()[-3000:]}"
    )


def _catalogued(folder: Path) -> dict[str, float]:
    import pyarrow.parquet as pq

    found: dict[str, float] = {}
    table = folder / "output" / "catalogue"
    for entry in sorted((table / "_delta_log").glob("*.json")):
        moment = entry.stat().st_mtime
        for line in entry.read_text().splitlines():
            added = json.loads(line).get("add")
            if added:
                for image in set(pq.read_table(table / added["path"], columns=["image_id"])["image_id"].to_pylist()):
                    found.setdefault(image, moment)
    return found


if __name__ == "__main__":
    sys.exit(main())
