"""A poll that finds nothing new imports nothing that it does not use. benchmarks/idle.py measures its cost."""

from __future__ import annotations

import json

from tests.integration.conftest import Workspace, after_a_poll

HEAVY = (
    "great_expectations",
    "pyspark",
    "fugue",
    "deltalake",
    "pandas",
    "duckdb",
    "pyarrow",
    "PIL",
    "obstore",
    "boto3",
)
IDLE = f"""
import json, sys
from flows.poll import poll
before = set(sys.modules)
funnel = poll()
loaded = {{name.partition(".")[0] for name in sys.modules}}
traces = sorted(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")))
print(json.dumps({{"nothing_new": funnel.nothing_new, "heavy": sorted(loaded & set({HEAVY!r})), "traces": traces}}))
"""


@after_a_poll()
def test_an_idle_poll_imports_no_heavy_library(workspace: Workspace) -> None:
    child = workspace.child(IDLE)
    assert child.returncode == 0, child.stderr[-2000:]
    said = json.loads(child.stdout.splitlines()[-1])
    assert said["nothing_new"]
    # obstore proves that the output is writable before anything depends on it.
    assert said["heavy"] == ["obstore"]
    assert said["traces"] == [], "no collector is set"
