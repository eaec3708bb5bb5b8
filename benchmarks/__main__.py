"""``python -m benchmarks [NAME]``: runs one measurement, or all, each in a separate process.

Each prints a table and writes results/NAME.json with flat keys. Results are not committed.
"""

import subprocess
import sys

NAMES = (
    "budget",
    "catalogue",
    "control_path",
    "crop_engine",
    "encoders",
    "expectations",
    "frame",
    "gallery",
    "idle",
    "latency",
    "metrics",
    "outputs",
    "spark",
    "state",
)


def main() -> int:
    wanted = sys.argv[1:] or list(NAMES)
    unknown = set(wanted) - set(NAMES)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    statuses = []
    for name in wanted:
        print(f"== {name}", flush=True)
        statuses.append(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode)
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
