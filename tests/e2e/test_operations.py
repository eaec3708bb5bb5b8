"""Operated as people do it: deploy, schedule, dry run, backfill, cancel, a dead worker, replay. Real server, pool and worker.

The tests build on each other, in this order: the world that one leaves is what the next one finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.stack import ROOT, Stack

EVERYTHING = {"since": "2026-01-01T00:00:00Z"}
# A photo then takes half a minute: time enough to break something off.
SLOW = {"fault": "image_slow_drip", "seconds": 0.3}


@pytest.fixture(scope="module")
def worker(stack: Stack) -> Iterator[None]:
    with stack.worker():
        yield


def _deployed(stack: Stack) -> dict[str, Any]:
    """All that a deploy puts on the server, without what changes by itself."""
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


def test_deploying_twice_changes_nothing(stack: Stack) -> None:
    before = _deployed(stack)
    again = stack.python("automations.deploy")
    assert again.returncode == 0, again.stderr
    after = _deployed(stack)
    assert {entry["name"] for entry in after["deployments"]} >= {"poll", "process", "backfill", "replay", "maintain"}
    for kind, held in before.items():
        assert after[kind] == held, kind
    poll = stack.ask("GET", "/deployments/name/poll/poll")
    assert poll["paused"], "whoever paused it had a reason"


def test_a_schedule_that_left_the_file_leaves_the_server(stack: Stack, tmp_path: Path) -> None:
    path = ROOT / "prefect.yaml"
    text = path.read_text()
    other = tmp_path / "prefect.yaml"
    other.write_text(text.replace("slug: nightly", "slug: weekly").replace('"30 3 * * *"', '"30 3 * * 0"'))
    for file, slugs in ((other, ["weekly"]), (path, ["nightly"])):
        assert stack.python("automations.deploy", "--file", str(file)).returncode == 0
        found = stack.ask("GET", "/deployments/name/maintain/maintain")
        assert [schedule["slug"] for schedule in found["schedules"]] == slugs


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


def test_a_scheduled_poll_crops_what_is_there(stack: Stack, worker: None) -> None:
    stack.pause("poll", paused=False)

    def done() -> bool:
        return any(run["state_type"] == "COMPLETED" for run in stack.runs("poll"))

    stack.until(done, "a scheduled poll completes", timeout=240)
    stack.pause("poll")
    assert Counter(stack.works().values()) == {"done": 6}
    (summary,) = stack.artifacts("poll-summary")
    assert "![contact sheet](data:image/jpeg;base64," in summary["data"]
    named = [run["name"] for run in stack.runs("poll") if run["state_type"] == "COMPLETED"]
    assert all(name.startswith("poll 20") and name.endswith(" UTC") for name in named)


def test_a_dry_run_shows_what_the_backfill_then_does(stack: Stack, worker: None) -> None:
    before = stack.works()
    asked = {"photos": EVERYTHING, "mode": "all", "limits": {"images": 2}}
    assert stack.ended(stack.run("backfill", **asked, dry_run=True)) == "COMPLETED"
    assert stack.works() == before
    assert len(stack.batches()) == 1
    (plan,) = stack.artifacts("backfill-plan")
    assert "crops from 2 photos of the 6 that are wanted" in plan["data"]
    assert stack.ended(stack.run("backfill", **asked, dry_run=False)) == "COMPLETED"
    (days,) = stack.artifacts("backfill-days")
    assert "2 of 6 done, 0 failed, 4 left" in days["data"]
    (bar,) = stack.artifacts("backfill-progress")
    assert float(bar["data"]) == pytest.approx(100 / 3)
    assert set(stack.works().values()) == {"done"}


def test_a_cancelled_backfill_frees_its_batch_and_the_next_run_goes_on(stack: Stack, worker: None) -> None:
    stack.api.control.add_fault(**SLOW)
    asked = {"photos": EVERYTHING, "mode": "all", "dry_run": False}
    run = stack.run("backfill", **asked)
    stack.until(lambda: "claimed" in stack.works().values(), "the backfill has claimed a batch", timeout=240)
    stack.cancel(run)
    assert stack.ended(run) == "CANCELLED"
    batch, state, attempt, lease_until = stack.batches()[-1]
    assert (state, attempt) == ("open", 1)
    assert datetime.fromisoformat(lease_until) <= datetime.now(UTC), "its lease is over: anyone may go on"
    stack.api.control.clear_faults()
    stack.api.control.clear_log()
    assert stack.ended(stack.run("backfill", **asked)) == "COMPLETED"
    assert stack.batches()[-1][:3] == (batch, "committed", 2)
    assert set(stack.works().values()) == {"done"}
    assert sorted(stack.api.control.counts().values()) == [1, 1, 1, 1], "the two that were done are not done again"


def test_a_replay_tries_again_what_failed(stack: Stack, worker: None) -> None:
    (broken,) = stack.api.control.advance(photos=1)[0]
    stack.api.control.add_fault("image_500", image_id=broken)
    assert stack.ended(stack.run("poll")) == "COMPLETED"
    assert stack.works()[broken] == "failed"
    stack.api.control.clear_faults()
    assert stack.ended(stack.run("replay", ended=["failed"], reasons=["http_5xx"], dry_run=False)) == "COMPLETED"
    assert stack.works()[broken] == "done"
    assert stack.ended(stack.run("maintain")) == "COMPLETED"
