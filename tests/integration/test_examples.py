"""The examples of docs/ run on the output of a poll, with all output kinds side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import Workspace
from tests.java import java_home

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def _run(name: str, folder: Path, **more: str) -> str:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / name), str(folder)],
        env=os.environ | {"JAVA_HOME": str(java_home() or ""), "PYSPARK_PYTHON": sys.executable} | more,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


def test_every_example_reads_objects_and_packs_alike(workspace: Workspace) -> None:
    workspace.set(PROFILES='{"a": {}, "b": {"output": "shards"}, "c": {"output": "parquet", "max_side": 32}}')
    workspace.poll()
    output = workspace.folder / "output"
    rows = [row for row in workspace.rows() if row["status"] == "written"]
    assert _run("crops_duckdb.py", output).count(" bytes\n") == 3
    first = min(rows, key=lambda row: row["key"])
    assert f"{first['key']} ({first['width']}, {first['height']})" in _run("crops_pandas.py", output)
    assert str(first["bytes"]) in _run("crops_spark.py", output)
    shards = sum(row["profile"] == "b" for row in rows)
    assert f"{shards} crops" in _run("crops_pytorch.py", output / "shards")
    # As in a DataLoader's second worker, and in one of more workers than shards.
    number = len(list((output / "shards").rglob("*.tar"))) + 1
    workers = [
        _run("crops_pytorch.py", output / "shards", WORKER=str(n), NUM_WORKERS=str(number)) for n in range(number)
    ]
    assert sum(int(told.split()[-2]) for told in workers) == shards
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        f"crops_{name}.py" for name in ("duckdb", "pandas", "spark", "pytorch")
    }
