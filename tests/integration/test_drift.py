"""Drift warnings, from the pixels of crops to where people see them; and manifests that cannot be validated."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from cropline.core import storage
from cropline.core.phash import LETTERS
from tests.integration.conftest import Workspace, all_boxes, artifact_text, prefect_events


@all_boxes
def test_a_photo_sent_again_in_other_bytes_is_shown_with_its_evidence(workspace: Workspace) -> None:
    funnel = workspace.poll()
    assert funnel.warnings == []
    photo = workspace.rows()[0]
    assert photo["image_phash"] is not None
    assert len({row["image_phash"] for row in workspace.rows()}) == 6
    (key,) = [
        key for key in storage.list_keys(workspace.settings.storage.spec, "drift") if key.endswith("phash.parquet")
    ]
    # The baseline has five other photos of this camera, and this photo under another id and capture time.
    chance = random.Random(3)
    others = ["".join(chance.choices(LETTERS, k=256)) for _ in range(5)]
    noisy = "".join(
        letter if letter == "." else LETTERS[min(63, max(0, LETTERS.index(letter) + chance.choice((-1, 0, 1))))]
        for letter in photo["image_phash"]
    )
    known = [
        {
            "store_id": photo["store_id"],
            "camera_id": photo["camera_id"],
            "image_id": "sent-before" if number == 5 else f"other-{number}",
            "captured_at": "2026-01-01T00:00:00+00:00",
            "image_phash": text,
            "like": None,
        }
        for number, text in enumerate([*others, noisy])
    ]
    again = workspace.folder / "again"
    workspace.set(STORAGE__URL=(again / "output").as_uri(), STATE__URL=f"sqlite:///{workspace.folder / 'again.db'}")
    kept = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(known), kept)
    storage.write(workspace.settings.storage.spec, key, kept.getvalue())
    before = datetime.now(UTC)

    funnel = workspace.poll()

    assert funnel.written > 0, "a warning blocks nothing"
    ((kind, message),) = funnel.warnings
    assert kind == "near_duplicate"
    for fact in (photo["camera_id"], photo["store_id"], f"image_id {photo['image_id']}", "like sent-before"):
        assert fact in message, (fact, message)
        assert fact in artifact_text("poll-summary").replace("\\", "")
    (event,) = prefect_events("cropline.drift.near_duplicate", since=before)
    assert event.payload["evidence"]["like"] == "sent-before"
    assert event.resource.id == f"cropline.camera.cams.{photo['store_id']}.{photo['camera_id']}"
