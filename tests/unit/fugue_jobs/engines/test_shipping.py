"""What is sent to workers contains all of our own code that they import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fugue_jobs.engines.shipping import zipped_packages

# Every module of the crop code, from the zip alone: without a checkout and an installed cropline.
IMPORT_ALL = """
import importlib, sys, zipfile
from importlib.machinery import PathFinder
code = sys.argv[1]
sys.meta_path[:] = [f for f in sys.meta_path if f in (PathFinder,) or f.__module__.startswith(("_frozen", "importlib"))]
sys.path[:] = [code] + [p for p in sys.path if p.startswith(sys.base_prefix) or p.endswith("site-packages")]
names = [n for n in zipfile.ZipFile(code).namelist() if n.endswith(".py")]
for name in names:
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if module.startswith("fugue_jobs"):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            # Optional, and needed by whoever sends the job there only.
            if error.name not in ("distributed", "ray"):
                raise
ours = [m for n, m in sys.modules.items() if n.partition(".")[0] in ("cropline", "fugue_jobs")]
assert all(m.__file__.startswith(code) for m in ours), [m.__file__ for m in ours]
print(len(ours))
"""


def test_the_crop_code_imports_from_what_is_shipped_alone(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-I", "-c", IMPORT_ALL, str(zipped_packages())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    assert int(child.stdout) > 30
