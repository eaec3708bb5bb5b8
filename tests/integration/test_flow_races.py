"""A scheduled poll, a backfill and a replay in concurrent processes: each box is cropped once."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.contract.state.servers import Postgres
from tests.integration.conftest import Workspace
from tests.integration.oracle import Tally, books, boxes

FLOWS = {
    "poll": "from flows.poll import poll; poll()",
    "backfill": "from flows.backfill import backfill; from cropline.backfill.request import Photos; backfill(photos=Photos())",
    "replay": "from flows.replay import replay; replay(ended=['failed'])",
}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_poll_backfill_and_replay_at_once_crop_each_box_once(
    workspace: Workspace, database: str, request: pytest.FixtureRequest
) -> None:
    if database == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        workspace.set(STATE__URL=server.fresh())
    # Only a replay tries again what fails now.
    workspace.set(BATCH__IMAGES="2", STATE__BACKOFF_S="3600", LINEAGE__TRANSPORT="none")
    control = workspace.api.control
    failing = [row["id"] for row in control.images()[:3]]
    for image_id in failing:
        control.add_fault("image_500", image_id=image_id)
    workspace.poll()
    control.clear_faults()
    control.clear_log()
    added, _ = control.advance(photos=14)

    running = {name: workspace.start(code) for name, code in FLOWS.items()}
    ended = {name: run.wait(240) for name, run in running.items()}
    assert ended == dict.fromkeys(FLOWS, 0), {name: run.stderr for name, run in running.items()}

    assert workspace.poll().nothing_new
    place = workspace.place
    batches = dict(place.query("SELECT owner, count(*) FROM batches GROUP BY owner"))
    tally = books(place).against_boxes(boxes(control.images()))
    print(f"{tally} photos={len(added)}+{len(failing)} batches by run: {sorted(batches.values())}")
    assert tally == Tally()
    assert control.counts() == Counter([*added, *failing]), "each photo was fetched once"
