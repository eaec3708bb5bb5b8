"""Forgotten photos stay away after the state was lost, or restored from an earlier backup."""

from __future__ import annotations

import pytest

from cropline.backfill.request import Photos
from cropline.erasure.erase import forget
from cropline.erasure.events import event_emitter
from cropline.erasure.selection import Selection
from cropline.state import State
from flows.backfill import backfill
from tests.integration.conftest import Workspace, after_a_poll
from tests.integration.oracle import books
from tests.integration.state_backup import SqliteState


@after_a_poll(LINEAGE__TRANSPORT="none")
@pytest.mark.parametrize("how", ["lost", "restored", "restored while it waited"])
def test_a_forgotten_photo_does_not_come_back(workspace: Workspace, how: str) -> None:
    image = workspace.rows()[0]["image_id"]
    kept = SqliteState(workspace.environment["CROPLINE_STATE__URL"])
    if how.endswith("waited"):
        with State.open(workspace.settings.state) as state:
            assert state.requeue(states=["done"], images=[image]) == 1
    backup = kept.backup()
    with State.open(workspace.settings.state) as state:
        settings = workspace.settings
        forget(settings.storage.spec, state, "cams", Selection(images=(image,)), event_emitter(settings, state))
    gone = books(workspace.place)
    if how == "lost":
        kept.lose()
        backfill(photos=Photos(), announced="manifests")
    else:
        kept.restore(backup)
        workspace.poll()
    now = books(workspace.place)
    assert (now.crops, now.unnamed) == (gone.crops, frozenset())
    assert image not in {row[0] for row in now.rows}
    with State.open(workspace.settings.state) as state:
        assert state.forgotten("cams", [image]) == {image}
        assert state.image("cams", image) == []
        assert state.unfinished_erasures("cams") == []
