"""The memory of a batch's driver depends on the batch, not on the backlog."""

import tracemalloc
from pathlib import Path

import pyarrow as pa

from cropline.config.state import StateSettings
from cropline.core.store_spec import StoreSpec
from cropline.state import State
from fugue_jobs.engines.manifests import ManifestRows
from tests.contract import jobs
from tests.contract.state.build import candidate, registration

BATCH = 50
ROW_GROUP = 2_000  # as manifests are landed
_POOLS: list[pa.MemoryPool] = []  # Arrow's memory must not outlive its pool
BOXES = [jobs.box(f"box {n}", 0.1, 0.2, 0.5, 0.6) for n in range(4)]


def waiting(folder: Path, images: int) -> tuple[State, StoreSpec]:
    """Register that many images in one manifest."""
    folder.mkdir()
    store = StoreSpec(folder.as_uri())
    rows = [jobs.image(n, f"http://h/{n}.jpg", BOXES) for n in range(images)]
    jobs.landed(store, rows, group=ROW_GROUP)
    state = State.open(StateSettings.model_validate({"url": f"sqlite:///{folder}/state.db"}))
    wanted = [candidate(row["image_id"], manifest_row=row["manifest_row"], at=row["manifest_row"]) for row in rows]
    state.register(registration(wanted, manifest=jobs.MANIFEST))
    return state, store


def held(state: State, store: StoreSpec) -> tuple[float, float]:
    """Return the peak memory (MB of Python, MB of Arrow) while the next batch is claimed, planned and read."""
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    _POOLS.append(counted)
    pa.set_memory_pool(counted)
    tracemalloc.start()
    try:
        batch = state.claim(limit=BATCH, owner="driver")
        assert batch is not None
        state.report(last_batches=1)
        images = ManifestRows.of(store, batch.images)
        assert images.counts.num_rows == images.table().num_rows == BATCH
        assert images.parts.num_rows == 1
        return tracemalloc.get_traced_memory()[1] / 1e6, (counted.max_memory() or 0) / 1e6
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


def test_a_driver_holds_its_batch_and_not_the_backlog(tmp_path: Path) -> None:
    few, many = waiting(tmp_path / "few", ROW_GROUP), waiting(tmp_path / "many", 10 * ROW_GROUP)
    held(*few), held(*many)  # imports, and the cache of each database connection
    (python, arrow), (python_of_many, arrow_of_many) = held(*few), held(*many)
    print(f"{python:.2f} -> {python_of_many:.2f} MB of Python's, {arrow:.2f} -> {arrow_of_many:.2f} MB of Arrow's")
    # Ten times as many wait: if they were held, it would show.
    assert python_of_many < 3 * python
    assert arrow_of_many < 3 * arrow
    for state, _ in (few, many):
        state.close()
