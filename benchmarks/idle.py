"""The cost of a poll that finds nothing new, against an empty Prefect flow in the same environment.

Both run from start to end in separate processes against one real Prefect server, in turns. The ratio is of the
medians. Writes results/idle.json: idle_vs_empty, idle_s, empty_s, idle_cpu_s, empty_cpu_s.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EMPTY = "from prefect import flow\n@flow\ndef empty(): return None\nempty()"
IDLE = "from flows.poll import poll\nassert poll().nothing_new"
TURNS = 7


def _run(code: str, environment: dict[str, str]) -> tuple[float, float]:
    """Return the (wall, CPU) seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> dict[str, float]:
    """Measure and write the results."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    from demo.server import DemoServer

    with tempfile.TemporaryDirectory() as name, prefect_test_harness(), DemoServer(photos=4, megapixels=0.2) as api:
        folder = Path(name)
        environment = os.environ | {
            "PREFECT_API_URL": PREFECT_API_URL.value(),
            "CROPLINE_API__URL": api.base_url,
            "CROPLINE_API__TOKEN": api.token,
            "CROPLINE_FETCH__ALLOW_LOOPBACK": "true",
            "CROPLINE_STORAGE__URL": (folder / "out").as_uri(),
            "CROPLINE_STATE__URL": f"sqlite:///{folder / 'state.db'}",
        }
        _run("from flows.poll import poll\npoll()", environment)
        turns = [(_run(EMPTY, environment), _run(IDLE, environment)) for _ in range(TURNS)]
    empty, idle = zip(*turns, strict=True)
    figures = {
        "empty_s": statistics.median(wall for wall, _ in empty),
        "idle_s": statistics.median(wall for wall, _ in idle),
        "empty_cpu_s": statistics.median(cpu for _, cpu in empty),
        "idle_cpu_s": statistics.median(cpu for _, cpu in idle),
    }
    result = {"idle_vs_empty": figures["idle_s"] / figures["empty_s"]} | figures
    result = {key: round(value, 3) for key, value in result.items()}
    path = Path(__file__).parent / "results" / "idle.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    for key, value in result.items():
        print(f"{key:<16} {value}")
    return result


if __name__ == "__main__":
    main()
