"""Random histories against a model: after every step the tables match a dozen lines of plain Python.

The model shares no code and no SQL with the product.
"""

import os
import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cropline.core.errors import StaleLease
from cropline.state import Batch, Counts, Outcome, State
from tests.contract.state.build import NOON, Clock, Look, candidate, registration
from tests.contract.state.conftest import Open

PROFILES = ("default", "small")
PLACE = ["manifest", "manifest_row"]
LEASE, BACKOFF, MAX_ATTEMPTS = 100, 10, 3


@dataclass
class Work:
    state: str
    version: str
    updated: datetime
    boxes: int
    manifest: str
    attempts: int = 0
    claimed: "Work | None" = None
    retry_at: datetime | None = None


@dataclass
class Model:
    """What the state table should hold."""

    works: dict[tuple[str, str], Work] = field(default_factory=dict)

    def register(self, key: tuple[str, str], new: Work) -> None:
        old = self.works.get(key)
        if old is None:
            self.works[key] = new
        elif new.state == "quarantined":
            if old.state == "quarantined" and new.updated >= old.updated:
                self.works[key] = new
        elif old.state == "quarantined" or (old.version != new.version and new.updated >= old.updated):
            new.claimed = old.claimed
            self.works[key] = replace(new, state="claimed" if old.state == "claimed" else "pending")

    def claimable(self, now: datetime) -> set[tuple[str, str]]:
        return {
            key
            for key, work in self.works.items()
            if work.state == "pending"
            or (work.state == "failed" and work.retry_at is not None and work.retry_at <= now)
        }

    def claim(self, keys: set[tuple[str, str]]) -> None:
        for key in keys:
            work = self.works[key]
            work.state, work.retry_at, work.claimed = "claimed", None, replace(work)

    def end(self, key: tuple[str, str], ok: bool) -> None:
        work = self.works[key]
        assert work.claimed is not None
        changed = work.version != work.claimed.version
        work.claimed = None
        if changed:
            work.state, work.attempts = "pending", 0
        elif ok:
            work.state, work.attempts = "done", 0
        else:
            work.attempts += 1
            work.state = "dead" if work.attempts >= MAX_ATTEMPTS else "failed"


@dataclass
class History:
    """One random history, applied to the state and to the model."""

    state: State
    clock: Clock
    look: Look
    rng: random.Random
    model: Model = field(default_factory=Model)
    open: dict[str, tuple[Batch, set[tuple[str, str]], datetime]] = field(default_factory=dict)
    zombies: list[Batch] = field(default_factory=list)
    manifests: int = 0

    def step(self) -> None:
        act = self.rng.choices(
            [self.register, self.claim, self.commit, self.release, self.wait, self.requeue, self.wake_zombie],
            [4, 4, 4, 1, 3, 1, 1],
        )[0]
        act()
        self.check()

    def register(self) -> None:
        self.manifests += 1
        manifest, rows = f"m{self.manifests:04}", []
        for name in self.rng.sample([f"i{n}" for n in range(12)], self.rng.randint(0, 6)):
            version, at = self.rng.choice("abc"), self.rng.randint(0, 50)
            state = self.rng.choices(["pending", "quarantined"], [5, 1])[0]
            for profile in PROFILES:
                boxes = ord(version)
                rows.append(
                    candidate(name, profile=profile, version=version, at=at, boxes=boxes, state=state, reason=manifest)
                )
                moment = NOON + timedelta(seconds=at)
                self.model.register((name, profile), Work(state, version, moment, boxes, manifest))
        self.state.register(registration(rows, manifest=manifest))

    def claim(self) -> None:
        limit = self.rng.randint(1, 6)
        batch = self.state.claim(limit=limit, owner="model")
        stale = {batch_id for batch_id, (_, _, lease) in self.open.items() if lease <= self.clock.now}
        claimable = self.model.claimable(self.clock.now)
        if batch is None:
            assert not stale
            assert not claimable
            return
        keys = {(i["image_id"], work["profile"]) for i in batch.images.to_pylist() for work in i["work"]}
        lease = self.clock.now + timedelta(seconds=LEASE)
        assert batch.lease_until == lease
        if batch.resumed:
            assert batch.batch_id in stale
            before, members, _ = self.open[batch.batch_id]
            assert (keys, batch.attempt) == (members, before.attempt + 1)
            # A resumed batch reads the newest announced place of the same work.
            assert batch.images.drop_columns(PLACE).equals(before.images.drop_columns(PLACE))
            self.zombies.append(before)
        else:
            assert keys <= claimable
            assert 1 <= len({image for image, _ in keys}) <= limit
            self.model.claim(keys)
        self.open[batch.batch_id] = (batch, keys, lease)

    def commit(self) -> None:
        if not self.open:
            return
        batch, _, _ = self.open.pop(self.rng.choice(sorted(self.open)))
        told, boxes, crops = [], 0, 0
        for image in batch.images.to_pylist():
            for work in image["work"]:
                key = (image["image_id"], work["profile"])
                claimed = self.model.works[key].claimed
                assert claimed is not None
                ok = self.rng.random() < 0.6
                fingerprint = f"{key[0]}/{claimed.version}/{key[1]}"
                told.append(Outcome("cams", *key, fingerprint, ok, None if ok else "timeout"))
                crops += claimed.boxes
                self.model.end(key, ok)
            boxes += claimed.boxes
        failed = self.rng.randint(0, crops)
        self.state.commit(
            batch,
            self.rng.sample(told, len(told)),
            counts=Counts(batch.images.num_rows, boxes, crops - failed, failed, 0),
            catalogue_version=1,
        )
        for name, profile in ((outcome.image_id, outcome.profile) for outcome in told):
            # The product chooses the jitter. The model takes the time of the retry from it and checks the rule.
            (found,) = [work for work in self.state.image("cams", name) if work.profile == profile]
            work = self.model.works[name, profile]
            work.retry_at = found.retry_at
            if work.state == "failed":
                assert found.retry_at is not None
                waited = (found.retry_at - self.clock.now).total_seconds() / (BACKOFF * 2 ** (work.attempts - 1))
                assert 1 <= waited <= 1.5

    def release(self) -> None:
        if self.open:
            batch_id = self.rng.choice(sorted(self.open))
            batch, keys, _ = self.open[batch_id]
            self.state.release(batch, "model")
            self.open[batch_id] = (batch, keys, self.clock.now)

    def wait(self) -> None:
        self.clock.forward(seconds=self.rng.randint(1, 60))

    def requeue(self) -> None:
        wanted = self.rng.sample(["failed", "dead", "done"], self.rng.randint(1, 3))
        chosen = [work for work in self.model.works.values() if work.state in wanted]
        for work in chosen:
            work.state, work.attempts, work.retry_at = "pending", 0, None
        assert self.state.requeue(states=wanted) == len(chosen)  # type: ignore[arg-type]

    def wake_zombie(self) -> None:
        if self.zombies:
            zombie = self.rng.choice(self.zombies)
            with pytest.raises(StaleLease):
                self.state.commit(zombie, [], counts=Counts(0, 0, 0, 0, 0), catalogue_version=1)
            with pytest.raises(StaleLease):
                self.state.renew(zombie)

    def check(self) -> None:
        found: dict[Any, Any] = {
            (image, profile): (state, version, manifest, attempts)
            for image, profile, state, version, manifest, attempts in self.look.rows(
                "SELECT image_id, profile, state, version, manifest, attempts FROM images"
            )
        }
        assert found == {
            key: (work.state, work.version, work.manifest, work.attempts) for key, work in self.model.works.items()
        }
        counted: dict[str, int] = {}
        for work in self.model.works.values():
            counted[work.state] = counted.get(work.state, 0) + 1
        tallied = {state: int(works) for state, works in self.look.rows(
            "SELECT state, sum(works) FROM tallies GROUP BY state HAVING sum(works) <> 0"
        )}  # fmt: skip
        assert tallied == counted


def test_random_histories_end_as_the_rules_say(open_state: Open, clock: Clock, url: str) -> None:
    seed = int(os.environ.get("CROPLINE_TEST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"CROPLINE_TEST_SEED={seed}")
    state = open_state(lease_s=LEASE, backoff_s=BACKOFF, max_attempts=MAX_ATTEMPTS)
    history = History(state, clock, Look(url), random.Random(seed))
    for _ in range(150):
        history.step()
