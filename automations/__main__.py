"""``python -m automations``: puts automations on the server at PREFECT_API_URL."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from automations.apply import apply_files
from cropline.config.settings import load_installation
from cropline.core.errors import CroplineError

ZOMBIES = Path(__file__).with_name("zombies.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Apply the files. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m automations", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="YAML files; zombies.yaml if none is given")
    parser.add_argument("--notify", metavar="TYPE/NAME", help="notification block that alerts are sent through")
    given = parser.parse_args(arguments)
    try:
        for name, done in apply_files(given.files or [ZOMBIES], given.notify, settings=load_installation()):
            print(f"{done:<10} {name}")  # noqa: T201
    except CroplineError as error:
        print(f"automations: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
