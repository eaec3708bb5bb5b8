"""The figures for monitoring show the actual state, and reading them does not read finished work."""

from datetime import timedelta

from cropline.state import CroppedInWindow, State
from tests.contract.state.build import NOON, Clock, candidate, counts, event, outcomes, registration
from tests.contract.state.conftest import Open

HOUR = timedelta(hours=1)


def test_an_empty_state_has_no_figures(state: State) -> None:
    figures = state.metrics(window=HOUR)
    assert (figures.work_items, figures.cropped, figures.flow_ends, figures.cursors) == ([], [], [], [])
    assert (figures.open_batches, figures.events_waiting, figures.erasures_open) == (0, 0, 0)
    assert figures.oldest_pending_since is None
    assert figures.oldest_event_at is None


def test_every_figure_shows_the_state(open_state: Open, clock: Clock) -> None:
    state = open_state(lease_s=60)
    state.register(registration([candidate("a"), candidate("b")]))
    batch = state.claim(limit=5, owner="run")
    assert batch is not None
    clock.forward(seconds=30)
    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=3)
    state.register(registration([candidate("c", source="zeta")], manifest="m2", source="zeta"))
    waiting_since = clock.now
    state.register(registration([candidate("d")], manifest="m3"))
    assert state.claim(limit=1, owner="run", source="cams") is not None
    state.enqueue_events([event("e")])
    state.begin_erasure("cams", "{}", image_ids=["elsewhere"])
    clock.forward(seconds=61)
    figures = state.metrics(window=HOUR)
    assert [item for item in figures.work_items if item[2]] == [
        ("cams", "claimed", 1),
        ("cams", "done", 2),
        ("zeta", "pending", 1),
    ]
    assert figures.oldest_pending_since == waiting_since
    assert figures.cursors == [("cams", NOON), ("zeta", NOON)]
    assert (figures.open_batches, figures.stale_batches) == (1, 1)
    assert figures.cropped == [CroppedInWindow("cams", batches=1, images=2, written=6, failed=0, skipped=0, seconds=30)]
    assert figures.events_waiting == 1
    assert figures.erasures_open == 1


def test_the_window_leaves_out_older_batches(state: State, clock: Clock) -> None:
    state.register(registration([candidate("a")]))
    batch = state.claim(limit=5, owner="run")
    assert batch is not None
    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=3)
    clock.forward(minutes=61)
    assert state.metrics(window=HOUR).cropped == []


def test_the_last_success_stays_after_a_failure(state: State, clock: Clock) -> None:
    state.note_flow_end("poll", "poll", "COMPLETE")
    good = clock.now
    clock.forward(minutes=5)
    state.note_flow_end("poll", "poll", "FAIL")
    state.note_flow_end("poll", None, "FAIL")
    by_hand, deployed = state.metrics(window=HOUR).flow_ends
    assert (deployed.deployment, deployed.status) == ("poll", "FAIL")
    assert (deployed.completed_at, deployed.ended_at) == (good, clock.now)
    assert (by_hand.deployment, by_hand.completed_at) == ("", None)
