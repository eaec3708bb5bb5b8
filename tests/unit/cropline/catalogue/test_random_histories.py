"""Random commits, erasures, expiry, maintenance and reads, against a dict: the table always has the dict's rows."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from cropline.catalogue import Catalogue, compaction, data_files, entries
from cropline.catalogue.changes import changes_in
from cropline.core.store_spec import StoreSpec
from tests.delta_log import rows_in
from tests.unit.cropline.catalogue.test_catalogue import NOW, crops

IMAGES = [*(f"photo-{number}" for number in range(30)), "a", "A", "ä'x"]
PROFILES = ("default", "thumb")
STEPS = ("commit", "commit", "commit", "commit", "erase", "expire", "maintain", "repeat", "photos", "crop", "changes")


class History:
    """A catalogue and the dict that says what it must hold: (image, profile) -> (batch, keys)."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder, self.dice, self.batches = folder, dice, 0
        self.catalogue = Catalogue(StoreSpec(folder.as_uri()))
        self.held: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.commit()
        self.since = 0, Counter[str]()

    def keys(self) -> Counter[str]:
        return Counter(key for _, keys in self.held.values() for key in keys)

    def commit(self) -> None:
        self.batches += 1
        profile, boxes = self.dice.choice(PROFILES), self.dice.choice([1, 2, 5])
        chosen = self.dice.sample(IMAGES, self.dice.randint(1, 12))
        rows = pa.concat_tables(
            crops(
                [name], boxes=boxes, version=f"v{self.batches}", profile=profile, day=f"2026-11-{1 + len(name) % 3:02}"
            )
            for name in chosen
        )
        known = {name: self.held[name, profile][0] for name in chosen if (name, profile) in self.held}
        self.catalogue.append(
            rows,
            batch_id=f"b{self.batches}",
            attempt=1,
            flow_run="run",
            committed_at=NOW + timedelta(seconds=self.batches),
            superseding=[("cameras", name, profile) for name in known],
            committed_in={f"b{batch}" for batch in known.values()} if self.dice.random() < 0.6 else None,
        )
        for name in chosen:
            keys = [row["key"] for row in rows.to_pylist() if row["image_id"] == name]
            self.held[name, profile] = self.batches, keys

    def erase(self) -> None:
        gone = set(self.dice.sample(IMAGES, 2))
        self.catalogue.forget_images("cameras", gone)
        self.held = {work: told for work, told in self.held.items() if work[0] not in gone}

    def expire(self) -> None:
        profile, limit = self.dice.choice(PROFILES), self.dice.randint(0, self.batches)
        parts = list(self.catalogue.expire(profile, NOW + timedelta(seconds=limit)))
        gone = {work for work, (batch, _) in self.held.items() if work[1] == profile and batch < limit}
        assert Counter(key for part in parts for key in part["key"].to_pylist()) == Counter(
            key for work in gone for key in self.held[work][1]
        )
        self.held = {work: told for work, told in self.held.items() if work not in gone}

    def maintain(self) -> None:
        self.catalogue.maintain(vacuum_after=None)

    def repeat(self) -> None:
        batch = f"b{self.dice.randint(1, self.batches)}"
        again = self.catalogue.append(crops(["z"]), batch_id=batch, attempt=2, flow_run="run", committed_at=NOW)
        assert not again.appended

    def photos(self) -> None:
        chosen = self.dice.sample(IMAGES, self.dice.randint(1, len(IMAGES)))
        works = [work for work in self.held if work[0] in chosen]
        batches = {f"b{self.held[work][0]}" for work in works} if self.dice.random() < 0.5 else None
        found = self.catalogue.images_rows("cameras", chosen, committed_in=batches)
        assert Counter(found["key"].to_pylist()) == Counter(key for work in works for key in self.held[work][1])

    def crop(self) -> None:
        for key in sorted(self.keys())[:1]:
            found = self.catalogue.find(key)
            assert found is not None
            assert (found["key"], found["superseded_in"]) == (key, None)

    def changes(self) -> None:
        version, keys = self.since
        spec = StoreSpec(f"{self.folder.as_uri()}/catalogue")
        for row in changes_in(spec, version):
            keys[row["key"]] += {"added": 1, "updated": 0, "superseded": -1, "erased": -1}[row["change"]]
        assert +keys == self.keys()
        self.since = self.catalogue.version() or 0, self.keys()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_the_table_has_what_its_history_left(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    rows = dice.choice([3, 10, 32_768])
    for module in (data_files, compaction):
        monkeypatch.setattr(module, "GROUP_ROWS", rows)
    monkeypatch.setattr(compaction, "_SMALL", dice.choice([0, 20_000, 16 << 20]))
    monkeypatch.setattr(compaction, "_BINS_A_COMMIT", dice.choice([1, 16]))
    monkeypatch.setattr(entries, "_CHECKPOINT_EVERY", dice.choice([3, 50]))
    history = History(tmp_path, dice)
    for _ in range(60):
        getattr(history, dice.choice(STEPS))()
        assert Counter(row["key"] for row in rows_in(tmp_path / "catalogue")) == history.keys()
