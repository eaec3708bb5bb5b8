"""A burst of one source does not hold up another: sources take turns, batch by batch."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from cropline.state import CANDIDATES, State
from tests.contract.state.build import NOON, RECIPES, counts, ids, outcomes, registration


def burst(state: State, source: str, photos: int, *, at: int = 0) -> None:
    """Register this many photos of a source as one table."""
    numbers = range(photos)
    times = pa.array([NOON + timedelta(seconds=at + n) for n in numbers], CANDIDATES.field("captured_at").type)
    values = {
        "source": [source] * photos,
        "image_id": [f"{source}-{n}" for n in numbers],
        "profile": ["default"] * photos,
        "profile_hash": [RECIPES["default"][0]] * photos,
        "version": ["v1"] * photos,
        "fingerprint": [f"{source}/{n}" for n in numbers],
        "manifest": [f"manifests/{source}.parquet"] * photos,
        "manifest_row": list(numbers),
        "boxes": [3] * photos,
        "captured_at": times,
        "updated_at": times,
        "state": ["pending"] * photos,
    }
    filled = {
        field.name: pa.array(values[field.name], field.type) if field.name in values else pa.nulls(photos, field.type)
        for field in CANDIDATES
    }
    rows = pa.table(filled, schema=CANDIDATES)
    state.register(registration([], source=source, manifest=f"manifests/{source}.parquet", rows=rows))


@pytest.mark.parametrize("photos", [2_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_ten_photos_are_done_within_one_batch_of_a_burst(state: State, photos: int) -> None:
    burst(state, "acme", photos, at=1_000_000)  # newer: within one source the newest come first
    for _ in range(2):
        batch = state.claim(limit=500, owner="test", source=["acme", "zeta"])
        assert batch is not None
        state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
    burst(state, "zeta", 10)
    turns = []
    for _ in range(2):
        batch = state.claim(limit=500, owner="test", source=["acme", "zeta"])
        assert batch is not None
        turns.append((batch.source, len(ids(batch))))
    assert ("zeta", 10) in turns


def test_a_claim_of_named_sources_leaves_others_and_their_stale_batches(state: State) -> None:
    for source in ("acme", "zeta", "gone"):
        burst(state, source, 2)
    held = state.claim(limit=2, owner="dead", source="gone")
    assert held is not None
    state.release(held, "its run died")
    found = [state.claim(limit=2, owner="test", source=["acme", "zeta"]) for _ in range(3)]
    assert {batch.source for batch in found if batch is not None} == {"acme", "zeta"}
    assert found[2] is None
    assert not state.has_work(["acme", "zeta"])
    assert state.has_work(["gone"])
    assert state.has_work()
