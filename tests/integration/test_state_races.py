"""Concurrent processes on one state table commit each image exactly once, on both databases.

``CROPLINE_RACE_IMAGES`` sets the number of images (200; the full form is 10,000), ``CROPLINE_RACE_PROCESSES`` that of
processes (5; the full form is 8).
"""

import os
from collections import Counter
from pathlib import Path

import pytest

from cropline.config.state import StateSettings
from cropline.state import State
from tests.contract.state.build import NOON, Look, candidate, registration
from tests.contract.state.processes import Take, act, drain, drain_and_die, poll_and_drain, run_together
from tests.contract.state.servers import Postgres

IMAGES = int(os.environ.get("CROPLINE_RACE_IMAGES", "200"))
PROCESSES = int(os.environ.get("CROPLINE_RACE_PROCESSES", "5"))
LIMIT = 10  # images per batch: each process gets several
VERSIONS = 8


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.fresh()


def name(number: int) -> str:
    return f"i{number:05}"


def register(url: str, profiles: tuple[str, ...] = ("default",)) -> None:
    with State.open(StateSettings.model_validate({"url": url})) as state:
        rows = [
            candidate(name(n), at=n, updated_at=NOON, profile=profile) for n in range(IMAGES) for profile in profiles
        ]
        assert state.register(registration(rows)).new == IMAGES * len(profiles)


def assert_each_once(url: str, taken: list[Take], works: Counter[tuple[str, str, str]]) -> None:
    """Assert that the processes' commits and the tables both hold these work items, each once."""
    committed = Counter((take.image_id, take.profile, take.fingerprint) for take in taken)
    twice = dict(committed - works)
    lost = dict(works - committed)
    print(f"works={sum(works.values())} committed={sum(committed.values())} twice={len(twice)} lost={len(lost)}")
    assert (twice, lost) == ({}, {})
    look = Look(url)
    assert look.rows("SELECT DISTINCT state FROM images") == [("done",)]
    assert look.one("SELECT count(*) FROM batches WHERE state <> 'committed'") == 0
    assert look.rows("SELECT state, sum(works) FROM tallies GROUP BY state HAVING sum(works) <> 0") == [
        ("done", look.one("SELECT count(*) FROM images"))
    ]


def test_processes_at_once_claim_and_commit_each_image_exactly_once(url: str) -> None:
    register(url, ("default", "small"))
    taken = [take for part in run_together(drain, [(url, LIMIT)] * PROCESSES) for take in part]
    works = Counter(
        (name(n), profile, f"{name(n)}/v1/{profile}") for n in range(IMAGES) for profile in ("default", "small")
    )
    assert_each_once(url, taken, works)
    # A photo's profiles are in one batch, so that it is fetched once.
    batches = {(take.image_id, take.profile): take.batch_id for take in taken}
    assert all(batches[name(n), "default"] == batches[name(n), "small"] for n in range(IMAGES))


def test_killed_processes_with_a_batch_lose_and_duplicate_nothing(url: str) -> None:
    register(url)
    dead = [take for part in run_together(drain_and_die, [(url, LIMIT)] * (PROCESSES // 2)) for take in part]
    assert len(dead) == LIMIT * (PROCESSES // 2)  # each held a batch
    taken = [take for part in run_together(drain, [(url, LIMIT)] * PROCESSES) for take in part]
    assert_each_once(url, taken, Counter((name(n), "default", f"{name(n)}/v1/default") for n in range(IMAGES)))
    # Batches of dead processes were finished under their ids, which the catalogue may know.
    assert {take.batch_id for take in dead} <= {take.batch_id for take in taken}


def test_concurrent_poll_backfill_and_replay_do_each_version_once(url: str) -> None:
    with State.open(StateSettings.model_validate({"url": url})):
        pass
    # Three processes register the same images in the same and other versions, in different order, and work on them.
    plans = [(url, IMAGES // 10, seed, VERSIONS) for seed in range(PROCESSES)]
    taken = [take for part in run_together(poll_and_drain, plans) for take in part]
    taken += drain(url, 100)
    committed = Counter((take.image_id, take.fingerprint) for take in taken)
    assert max(committed.values()) == 1
    look = Look(url)
    assert look.rows("SELECT DISTINCT state FROM images") == [("done",)]
    assert look.one("SELECT count(*) FROM images") == IMAGES // 10
    # The last version won, regardless of which process registered it, and it was committed last.
    assert look.rows("SELECT DISTINCT version FROM images") == [(f"v{VERSIONS}",)]
    assert {(name(n), f"{name(n)}/v{VERSIONS}/default") for n in range(IMAGES // 10)} <= set(committed)


def test_concurrent_failures_takeovers_and_replays_neither_deadlock_nor_duplicate(url: str) -> None:
    register(url)
    images = IMAGES // 10
    bad = [("work badly", url, seed, 40) for seed in range(PROCESSES - 2)]
    others = [("replay", url, 0, 40), ("poll and drain", url, images, 1, 5), ("poll and drain", url, images, 2, 5)]
    taken = [take for part in run_together(act, [*bad, *others]) for take in part]
    with State.open(StateSettings.model_validate({"url": url})) as state:
        state.requeue()
        while state.report().images["claimed"]:  # leases of a twentieth of a second
            taken += drain(url, 100)
        taken += drain(url, 100)
    committed = Counter((take.image_id, take.fingerprint) for take in taken)
    twice = {work: count for work, count in committed.items() if count > 1}
    last = {(name(n), f"{name(n)}/v{5 if n < images else 1}/default") for n in range(IMAGES)}
    print(f"works={IMAGES} committed={sum(committed.values())} twice={len(twice)} lost={len(last - set(committed))}")
    assert (twice, last - set(committed)) == ({}, set())
    assert Look(url).rows("SELECT state, count(*) FROM images GROUP BY state") == [("done", IMAGES)]
    assert Look(url).rows("SELECT state, sum(works) FROM tallies GROUP BY state HAVING sum(works) <> 0") == [
        ("done", IMAGES)
    ]
