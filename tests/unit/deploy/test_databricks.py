"""The Databricks bundle: its variables, files, commands and settings exist; its entry point runs a command on the job's Spark."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cropline import cli
from cropline.config.settings import load_settings

BUNDLE = Path(__file__).parents[3] / "deploy" / "databricks"
TEXT = (BUNDLE / "databricks.yml").read_text()
LOADED: dict[str, Any] = yaml.safe_load(TEXT)


def test_every_name_in_the_bundle_leads_to_something() -> None:
    assert set(re.findall(r"\$\{var\.(\w+)\}", TEXT)) == set(LOADED["variables"])
    assert set(re.findall(r"\$\{([a-z]+)\.", TEXT)) <= {"var", "bundle", "workspace"}
    for job in LOADED["resources"]["jobs"].values():
        clusters = {each["job_cluster_key"] for each in job["job_clusters"]}
        for task in job["tasks"]:
            assert task["job_cluster_key"] in clusters
            script = task["spark_python_task"]
            assert (BUNDLE / script["python_file"]).is_file()
            assert script["parameters"][0] in get_command(cli.app).commands  # type: ignore[attr-defined]
    scripts = re.findall(r"\$\{workspace\.file_path\}/([\w.]+)", TEXT)
    assert scripts
    assert all((BUNDLE / name).is_file() for name in scripts)


def test_the_settings_of_the_clusters_are_read_and_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = LOADED["resources"]["jobs"].values()
    given = job["job_clusters"][0]["new_cluster"]["spark_env_vars"]
    filled = {
        "CROPLINE_API__URL": "https://api.example.com", "CROPLINE_STORAGE__URL": "s3://shelves/cropline",
        "CROPLINE_STATE__URL": "postgresql+psycopg://state.example.com/cropline", "CROPLINE_ENVIRONMENT": "prod",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, filled.get(name, value))
    settings = load_settings()
    assert settings.engine.conf == {"spark.speculation": "false"}
    for name in ("CROPLINE_API__TOKEN", "CROPLINE_STATE__URL"):
        assert re.fullmatch(r"\{\{secrets/cropline/\w+\}\}", given[name])


def test_the_entry_point_names_the_jobs_own_master_and_success_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    session = SimpleNamespace(sparkContext=SimpleNamespace(master="spark://10.0.0.1:7077"))
    sql = ModuleType("pyspark.sql")
    sql.SparkSession = SimpleNamespace(builder=SimpleNamespace(getOrCreate=lambda: session))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyspark.sql", sql)
    for name in ("KIND", "MASTER"):
        monkeypatch.setenv(f"CROPLINE_ENGINE__{name}", "")  # so that they are restored
    seen: list[tuple[list[str], str]] = []

    def ends(code: int | None) -> None:
        def main() -> None:
            seen.append((list(sys.argv), os.environ["CROPLINE_ENGINE__MASTER"]))
            raise SystemExit(code)

        monkeypatch.setattr(cli, "main", main)
        monkeypatch.setattr(sys, "argv", ["run.py", "poll", "--source", "acme"])
        runpy.run_path(str(BUNDLE / "run.py"))

    ends(0)
    assert seen == [(["cropline", "poll", "--source", "acme"], "spark://10.0.0.1:7077")]
    with pytest.raises(SystemExit, match="2"):
        ends(2)
