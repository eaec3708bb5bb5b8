"""Everyday operation: deploy, schedule, dry run, backfill, cancel, replay, the guide's commands, alerts, the UI.

Server, pool, worker and browser are real. The tests build on each other: each finds what the one before left.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
import requests
import yaml

from tests.e2e.browser import Ui, chromium, ui
from tests.e2e.guide import shell_blocks
from tests.e2e.stack import ROOT, Stack

_GUIDE = ROOT / "docs" / "operations.md"
_DEPLOY = "cropline deploy"  # a block of the guide
EVERYTHING = {"since": "2026-01-01T00:00:00Z"}
# A photo then takes minutes: enough time to interrupt a run.
SLOW = {"fault": "image_slow_drip", "seconds": 1.0}


@pytest.fixture(scope="module")
def worker(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    with stack.worker() as process:
        yield process


def _deployed(stack: Stack) -> dict[str, Any]:
    """Return everything that a deploy puts on the server, without what changes by itself."""
    moving = {"updated", "created", "last_polled", "status", "version", "version_id", "version_info", "id", "branch"}

    def still(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: still(entry) for name, entry in value.items() if name not in moving}
        return sorted((still(entry) for entry in value), key=repr) if isinstance(value, list) else value

    return {
        "deployments": still(stack.ask("POST", "/deployments/filter", {})),
        "automations": still(stack.ask("POST", "/automations/filter", {})),
        "limits": still(
            [
                {name: limit[name] for name in ("name", "limit", "slot_decay_per_second")}
                for limit in stack.ask("POST", "/v2/concurrency_limits/filter", {})
            ]
        ),
        "pools": still([pool["name"] for pool in stack.ask("POST", "/work_pools/filter", {})]),
    }


def test_deploying_again_changes_nothing_but_schedules_that_left_or_came_back(stack: Stack, tmp_path: Path) -> None:
    before = _deployed(stack)
    whole = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    (maintain,) = (entry for entry in whole["deployments"] if entry["name"] == "maintain")
    (nightly,) = maintain["schedules"]
    path = tmp_path / "prefect.yaml"
    weekly = nightly | {"slug": "weekly", "cron": "30 3 * * 0"}
    path.write_text(yaml.safe_dump(whole | {"deployments": [maintain | {"schedules": [weekly]}]}))
    assert stack.python("automations.deploy", "--file", str(path)).returncode == 0
    found = stack.ask("GET", "/deployments/name/maintain/maintain")
    assert [(held["slug"], held["schedule"]["cron"]) for held in found["schedules"]] == [("weekly", "30 3 * * 0")]
    assert _DEPLOY in shell_blocks(_GUIDE)
    again = stack.shell(_DEPLOY)
    assert again.returncode == 0, again.stderr
    after = _deployed(stack)
    assert {entry["name"] for entry in after["deployments"]} >= {
        "poll", "process", "backfill", "replay", "maintain", "forget",
    }  # fmt: skip
    for kind, held in before.items():
        assert after[kind] == held, kind
    poll = stack.ask("GET", "/deployments/name/poll/poll")
    assert poll["paused"], "whoever paused it had a reason"


@pytest.mark.parametrize(
    ("deployment", "parameters", "told"),
    [
        ("backfill", {"photos": EVERYTHING, "mod": "all"}, "'mod' was unexpected"),
        ("backfill", {"photos": {"stor": ["s1"]}}, "'stor' was unexpected"),
        ("backfill", {"photos": EVERYTHING, "mode": "everything"}, "'everything' is not one of"),
        ("backfill", {"photos": EVERYTHING, "limits": {"images": 0}}, "0 is less than the minimum of 1"),
        ("backfill", {}, "'photos' is a required property"),
        ("poll", {"max_batches": "many"}, "'many' is not valid"),
        ("replay", {"ended": ["done"]}, "'done' is not one of"),
        ("forget", {}, "'photos' is a required property"),
        ("forget", {"photos": {"image": ["a"]}}, "'image' was unexpected"),
        ("forget", {"photos": {"images": [""]}}, "'' should be non-empty"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(
    stack: Stack, deployment: str, parameters: dict[str, Any], told: str
) -> None:
    found = stack.ask("GET", f"/deployments/name/{deployment}/{deployment}")
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            f"{stack.url}/deployments/{found['id']}/create_flow_run", json={"parameters": parameters}, timeout=30
        )
    assert answer.status_code == 409
    assert told in answer.json()["detail"]


def test_a_scheduled_poll_crops_what_is_there(stack: Stack, worker: subprocess.Popen[bytes]) -> None:
    stack.pause("poll", paused=False)

    def done() -> bool:
        return any(run["state_type"] == "COMPLETED" for run in stack.runs("poll"))

    stack.until(done, "a scheduled poll completes", timeout=240, every=1)
    stack.pause("poll")
    assert Counter(stack.works().values()) == {"done": 6}
    (summary,) = stack.artifacts("poll-summary")
    assert "![contact sheet](data:image/jpeg;base64," in summary["data"]
    named = [run["name"] for run in stack.runs("poll") if run["state_type"] == "COMPLETED"]
    assert all(name.startswith("poll 20") and name.endswith(" UTC") for name in named)


def test_a_dry_run_shows_what_the_backfill_then_does(stack: Stack, worker: subprocess.Popen[bytes]) -> None:
    before = stack.works()
    asked = {"photos": EVERYTHING, "mode": "all", "limits": {"images": 2}}
    assert stack.ended(stack.run("backfill", **asked, dry_run=True)) == "COMPLETED"
    assert stack.works() == before
    assert len(stack.batches()) == 1
    (plan,) = stack.artifacts("backfill-plan")
    assert "crops from 2 photos of 6 wanted photos" in plan["data"]
    assert stack.ended(stack.run("backfill", **asked, dry_run=False)) == "COMPLETED"
    (days,) = stack.artifacts("backfill-days")
    assert "2 of 6 done, 0 failed, 4 left" in days["data"]
    (bar,) = stack.artifacts("backfill-progress")
    assert float(bar["data"]) == pytest.approx(100 / 3)
    assert set(stack.works().values()) == {"done"}


def test_new_photos_do_not_wait_for_a_backfill_and_a_cancelled_backfill_resumes(
    stack: Stack, worker: subprocess.Popen[bytes]
) -> None:
    for photo in stack.works():
        stack.api.control.add_fault(**SLOW, image_id=photo)
    asked = {"photos": EVERYTHING, "mode": "all", "dry_run": False}
    run = stack.run("backfill", **asked)
    stack.until(lambda: "claimed" in stack.works().values(), "the backfill has claimed a batch", timeout=240)
    (batch,) = (entry[0] for entry in stack.batches() if entry[1] == "open")
    (fresh,) = stack.api.control.advance(photos=1)[0]
    assert stack.ended(stack.run("poll")) == "COMPLETED"
    assert stack.works()[fresh] == "done"
    assert stack.state(run) == "RUNNING", "the new photo went first"

    stack.cancel(run)
    assert stack.ended(run) == "CANCELLED"
    ((state, attempt, lease_until),) = (entry[1:] for entry in stack.batches() if entry[0] == batch)
    assert (state, attempt) == ("open", 1)
    assert datetime.fromisoformat(lease_until) <= datetime.now(UTC), "its lease is over: anyone may go on"
    stack.api.control.clear_faults()
    stack.api.control.clear_log()
    assert stack.ended(stack.run("backfill", **asked)) == "COMPLETED"
    assert (batch, "committed", 2) in [entry[:3] for entry in stack.batches()]
    assert set(stack.works().values()) == {"done"}
    assert sorted(stack.api.control.counts().values()) == [1, 1, 1, 1], "the two that were done are not done again"


def test_a_replay_tries_again_what_failed(stack: Stack, worker: subprocess.Popen[bytes]) -> None:
    broken, whole = stack.api.control.advance(photos=2)[0]
    stack.api.control.add_fault("image_500", image_id=broken)
    assert stack.ended(stack.run("poll")) == "COMPLETED"
    assert (stack.works()[broken], stack.works()[whole]) == ("failed", "done")
    stack.api.control.clear_faults()
    assert stack.ended(stack.run("replay", ended=["failed"], reasons=["http_5xx"], dry_run=False)) == "COMPLETED"
    assert stack.works()[broken] == "done"
    assert stack.ended(stack.run("maintain")) == "COMPLETED"


_MAKE_BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook
Webhook(name="ops", url=sys.argv[1], json_data={"text": "{{subject}} | {{body}}"}).save("ops")
"""


@pytest.fixture(scope="module")
def messages(stack: Stack) -> Iterator[list[str]]:
    """Yield the messages at the notification block that the guide names: a real HTTP server behind a real block."""
    arrived: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Suppress the log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = stack.shell(f"python -c '{_MAKE_BLOCK}' http://127.0.0.1:{server.server_port}/", warm=True)
        assert made.returncode == 0, made.stderr
        yield arrived
        server.shutdown()


@pytest.fixture
def worker_asleep(stack: Stack, worker: subprocess.Popen[bytes]) -> Iterator[None]:
    """Suspend the worker during a test, and delete the runs that the test asked for: nobody waits for them."""
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
        for run in stack.waiting():
            stack.ask("DELETE", f"/flow_runs/{run}")
    finally:
        worker.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    "commands",
    [block for block in shell_blocks(_GUIDE) if block != _DEPLOY],
    ids=lambda commands: commands.splitlines()[0],
)
def test_the_commands_of_the_operations_guide_run_as_they_are_printed(
    stack: Stack, worker_asleep: None, messages: list[str], commands: str
) -> None:
    done = stack.shell(commands, warm=True)  # in new processes: the guide's cropline deploy, prefect event emit below
    assert done.returncode == 0, done.stdout + done.stderr
    asked = [
        line.split()[3].partition("/")[0] for line in commands.splitlines() if line.startswith("prefect deployment run")
    ]
    assert len(stack.waiting()) == len(asked), "each run that is asked for waits for the worker"


def test_an_alert_of_the_shipped_file_reaches_its_receiver(
    stack: Stack, worker: subprocess.Popen[bytes], messages: list[str]
) -> None:
    stack.api.control.add_fault("listing_html")
    assert stack.ended(stack.run("poll")) == "FAILED"
    stack.api.control.clear_faults()
    arrived = stack.until(lambda: [text for text in messages if "a run failed" in text], "the alert arrives")
    # The scheduled poll may have hit the fault too. Prefect tells each at least once: it repeats an action that was interrupted.
    assert len(set(arrived)) <= len([run for run in stack.runs("poll") if run["state_type"] == "FAILED"])
    assert all("poll 20" in message for message in arrived), "which run"
    assert all("docs/operations.md" in message for message in arrived), "what to do"


def test_an_event_starts_a_process_run(stack: Stack, worker: subprocess.Popen[bytes]) -> None:
    stack.warm_up("process")
    before = len(stack.runs("process"))
    done = stack.shell("prefect event emit cropline.process.wanted --resource-id cropline.source.cams")
    assert done.returncode == 0, done.stderr
    stack.until(lambda: len(stack.runs("process")) > before, "the event's run is there", every=1)
    assert stack.ended(stack.runs("process")[-1]["id"]) == "COMPLETED"


def test_a_forget_run_is_a_dry_run_by_default(stack: Stack, worker: subprocess.Popen[bytes]) -> None:
    before = stack.works()
    gone = min(before)
    assert stack.ended(stack.run("forget", photos={"images": [gone]})) == "COMPLETED"
    assert stack.works() == before
    assert stack.ended(stack.run("forget", photos={"images": [gone]}, dry_run=False)) == "COMPLETED"
    assert stack.works() == {photo: state for photo, state in before.items() if photo != gone}
    assert any("will not be cropped again" in artifact["data"] for artifact in stack.artifacts("forget-summary"))


@pytest.fixture(scope="module")
def browser(stack: Stack) -> Iterator[Ui]:
    program = chromium()
    if program is None:
        pytest.skip("there is no Chromium on this machine (chromium, chromium-browser or google-chrome in PATH)")
    with ui(program, stack.ui) as opened:
        yield opened


def _newest(stack: Stack, key: str, showing: str) -> str:
    """Return the newest artifact of a key that shows ``showing``: a run with nothing to do leaves one too."""
    return next(str(artifact["id"]) for artifact in stack.artifacts(key) if showing in artifact["data"])


def test_the_ui_lists_the_runs_by_what_and_when(stack: Stack, browser: Ui) -> None:
    browser.open("/runs")
    names = [run["name"] for name in ("poll", "backfill", "replay") for run in stack.runs(name) if run["start_time"]]
    browser.sees(*sorted({name.split(" 20")[0] for name in names}))
    browser.sees(*names[:1])
    browser.keep("runs", 1400)


def test_the_ui_shows_a_runs_summary_with_its_pictures(stack: Stack, browser: Ui) -> None:
    browser.open(f"/artifacts/artifact/{_newest(stack, 'poll-summary', 'contact sheet')}")
    assert browser.picture("contact sheet") > (800, 200)
    assert browser.picture("throughput over time") > (800, 100)
    browser.sees("crops written from", "boxes in", "Data Docs", "catalogue", "lineage")
    browser.keep("summary", 2200)


def test_the_ui_shows_what_failed_and_how_to_look_at_it(stack: Stack, browser: Ui) -> None:
    browser.open(f"/artifacts/artifact/{_newest(stack, 'poll-failures', 'http_5xx')}")
    browser.sees("http_5xx", "cropline show ")
    browser.keep("failures")


def test_the_ui_shows_the_backlog_as_a_picture(stack: Stack, browser: Ui) -> None:
    browser.open(f"/artifacts/artifact/{_newest(stack, 'backlog', 'svg')}")
    assert browser.picture("backlog and age over the last day") > (800, 300)
    browser.keep("backlog", 1400)


def test_the_ui_has_a_form_for_backfills_with_help_for_each_field(stack: Stack, browser: Ui) -> None:
    found = stack.ask("GET", "/deployments/name/backfill/backfill")
    browser.open(f"/deployments/deployment/{found['id']}/run")
    browser.sees(
        "Which photos", "Captured since", "the earliest capture time that counts; UTC when it has no offset",
        "Captured before", "Stores", "ids of stores; empty means all stores", "Cameras", "Profiles",
        "Announced by", "api: ask the image API again; manifests: read what earlier polls landed",
        "What to do", "failed: failed and dead ones", "Order", "which photos come first, by capture time",
        "Dry run", "show what would be done, why, and what it would cost; do nothing", "Restart",
        "Limits", "Images", "process at most this many photos", "API calls", "PUTs", "Bytes",
    )  # fmt: skip
    browser.keep("backfill-form", 2700)


def test_a_backfill_that_is_asked_for_in_the_form_runs_as_it_was_filled_in(
    stack: Stack, worker: subprocess.Popen[bytes], browser: Ui
) -> None:
    store, photos = Counter(row["store_id"] for row in stack.api.control.images()).most_common(1)[0]
    stack.warm_up("backfill")
    found = stack.ask("GET", "/deployments/name/backfill/backfill")
    browser.open(f"/deployments/deployment/{found['id']}/run")
    browser.choose("What to do", "all")
    browser.fill_date("Captured since", "2026-01-01")
    browser.fill_list("Stores", store)
    browser.fill_number("Images", 1)
    browser.keep("backfill-form-filled", 2900)
    before = [run["id"] for run in stack.runs("backfill")]
    browser.submit()
    run = stack.until(
        lambda: {entry["id"] for entry in stack.runs("backfill")}.difference(before), "the run is there", every=1
    )
    assert stack.ended(UUID(min(run))) == "COMPLETED"
    (made,) = (entry for entry in stack.runs("backfill") if entry["id"] in run)
    browser.sees(made["name"], "Completed")
    asked = made["parameters"]
    assert (asked["photos"]["stores"], asked["mode"], asked["limits"]["images"]) == ([store], "all", 1)
    assert datetime.fromisoformat(asked["photos"]["since"]) == datetime(2026, 1, 1, tzinfo=UTC)
    assert asked["dry_run"], "what the form is not told stays as the deployment has it"
    plan = next(entry for entry in stack.artifacts("backfill-plan") if entry["flow_run_id"] in run)
    assert f"crops from 1 photo of {photos} wanted photos" in plan["data"]
    browser.keep("backfill-runs", 1100)
    browser.open(f"/artifacts/artifact/{plan['id']}")
    browser.sees("estimate", "API calls", "captured on")
    browser.keep("backfill-plan", 1100)


def test_the_ui_shows_how_far_a_backfill_is_by_day(stack: Stack, browser: Ui) -> None:
    browser.open(f"/artifacts/artifact/{_newest(stack, 'backfill-days', 'captured on')}")
    browser.sees("captured on", "planned", "left")
    browser.keep("backfill-days")


def test_a_report_opens_without_a_server_and_its_links_lead_to_what_is_there(stack: Stack, browser: Ui) -> None:
    report = max((stack.folder / "output" / "reports").glob("*/poll-*.html"), key=lambda path: path.stat().st_size)
    browser.open_file(report)
    assert browser.picture("contact sheet of sampled crops") > (800, 200)
    assert browser.picture("throughput over time") > (800, 100)
    links = [link.get_attribute("href") for link in browser.page.get_by_role("link").all()]
    assert len(links) >= 5
    for link in links:
        assert (report.parent / unquote(str(link))).exists(), link
    browser.keep("report", 2000)
