"""A real Prometheus scrapes the exporter; the shipped alerts and the dashboard work on what it holds."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from cropline.config.settings import load_settings
from cropline.core.errors import CroplineError
from cropline.metrics.server import serving
from cropline.state import State
from tests.contract.state.build import candidate, counts, outcomes, registration

DEPLOY = Path(__file__).parents[2] / "deploy"
pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")


def fail(error: CroplineError) -> None:
    raise error


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yaml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    arguments = [
        "prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address={address}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(arguments, stdout=log, stderr=log) as server:
        try:
            yield f"http://{address}/api/v1"
        finally:
            server.terminate()


def query(api: str, expression: str) -> list[dict[str, Any]]:
    answered = requests.get(f"{api}/query", params={"query": expression}, timeout=10)
    if answered.status_code == 503:  # it listens before it has read its storage
        return []
    answer = answered.json()
    assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def until(api: str, expression: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if found := query(api, expression):
                return found
        except requests.ConnectionError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"nothing came for {expression}")


def test_prometheus_scrapes_alerts_and_draws(tmp_path: Path) -> None:
    settings = load_settings(
        storage={"url": f"file://{tmp_path}/store"}, state={"url": f"sqlite:///{tmp_path}/state.db", "lease_s": 60}
    )
    with State.open(settings.state) as state:
        state.register(registration([candidate("a"), candidate("b")]))
        batch = state.claim(limit=1, owner="run")
        assert batch is not None
        state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=0)
        state.note_flow_end("poll", "poll", "COMPLETE")
    with (
        serving(settings, "127.0.0.1", 0, timedelta(minutes=15), fail) as port,
        prometheus(tmp_path, f"127.0.0.1:{port}") as api,
    ):
        (up,) = until(api, "cropline_up")
        assert up["value"][1] == "1"
        (written,) = query(api, 'cropline_window_crops{status="written"}')
        assert (written["metric"]["source"], written["value"][1]) == ("cams", "3")
        rules = requests.get(f"{api}/rules", timeout=10).json()["data"]["groups"][0]["rules"]
        assert len(rules) == 9
        # A query that names an unknown metric finds nothing, without an error.
        known = set(requests.get(f"{api}/label/__name__/values", timeout=10).json()["data"])
        for expression in (*dashboard_queries(), *(rule["query"] for rule in rules)):
            assert set(re.findall(r"cropline_\w+", expression)) - known <= {
                "cropline_failed_work_items",
                "cropline_catalogue_bytes",
                "cropline_catalogue_files",
                "cropline_catalogue_version",
            }, expression
            query(api, expression)
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_alert_has_a_runbook() -> None:
    headings = set(re.findall(r"^### (.+)$", (DEPLOY.parent / "docs" / "operations.md").read_text(), re.MULTILINE))
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"][0]["rules"]
    named = {rule["annotations"]["runbook"].removeprefix("docs/operations.md: ") for rule in rules}
    assert named <= {heading.lower() for heading in headings}


def dashboard_queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "cropline.json").read_text())
    return [target["expr"].replace("$instance", ".*") for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    def series(values: dict[str, str]) -> list[dict[str, str]]:
        return [{"series": name, "values": steps} for name, steps in values.items()]

    def fired(minutes: str, alert: str, **labels: str) -> dict[str, Any]:
        return {"eval_time": minutes, "alertname": alert, "exp_alerts": [{"exp_labels": labels}] if labels else []}

    poll = '{flow="poll",deployment="poll"}'
    tests = [
        {
            "interval": "1m",
            "input_series": series(
                {
                    "cropline_up": "1x30 0x30",
                    "cropline_oldest_pending_seconds": "3000+60x60",
                    f"cropline_flow_last_success_timestamp_seconds{poll}": "0x60",
                    f"cropline_flow_last_failed{poll}": "0x40 1x20",
                    'cropline_window_crops{source="cams",status="failed"}': "5x20 50x40",
                    'cropline_window_crops{source="cams",status="written"}': "10x60",
                }
            ),
            "alert_rule_test": [
                fired("30m", "CroplineStateDown"),
                fired("40m", "CroplineStateDown", severity="page"),
                fired("15m", "CroplineBacklogOld"),
                fired("30m", "CroplineBacklogOld", severity="page"),
                fired("29m", "CroplineNoSuccess"),
                fired("32m", "CroplineNoSuccess", severity="page", flow="poll", deployment="poll"),
                fired("44m", "CroplineRunFailed"),
                fired("48m", "CroplineRunFailed", severity="ticket", flow="poll", deployment="poll"),
                fired("34m", "CroplineMostlyFailing"),
                fired("40m", "CroplineMostlyFailing", severity="page", source="cams"),
            ],
        }
    ]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    for rule in rules["groups"][0]["rules"]:
        del rule["annotations"]
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": [str(tmp_path / "alerts.yaml")], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
