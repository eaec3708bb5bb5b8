"""The outbox publishes each event at least once, under a stable id, in order."""

from cropline.state import State
from tests.contract.state.build import Clock, Look, event


def names(state: State, limit: int = 100) -> list[str]:
    return [pending.event_id for pending in state.pending_events(limit)]


def test_events_come_in_the_order_in_which_they_were_put_in(state: State) -> None:
    state.enqueue_events([event(f"z{n}") for n in (3, 1, 2)])
    state.enqueue_events([event("a")])
    assert names(state) == ["z3", "z1", "z2", "a"]
    assert names(state, 2) == ["z3", "z1"]


def test_an_event_stays_until_it_is_published(state: State) -> None:
    state.enqueue_events([event("a"), event("b")])
    assert names(state) == names(state) == ["a", "b"]
    state.mark_published(["a", "unknown"])
    assert names(state) == ["b"]


def test_the_same_event_again_is_the_same_event_published_or_not(state: State, look: Look) -> None:
    state.enqueue_events([event("a"), event("b")])
    state.mark_published(["a"])
    state.enqueue_events([event("a"), event("b"), event("b")])
    state.enqueue_events([])
    assert names(state) == ["b"]
    assert look.one("SELECT count(*) FROM outbox") == 2


def test_an_event_that_cannot_be_published_does_not_hold_up_the_others(state: State) -> None:
    state.enqueue_events([event("refused"), event("a"), event("b")])
    state.mark_publish_failed(["refused"], "the collector answered 400")
    assert names(state, 2) == ["a", "b"]
    (last,) = state.pending_events(100)[2:]
    assert (last.event_id, last.attempts, last.last_error) == ("refused", 1, "the collector answered 400")


def test_a_failure_that_comes_late_does_not_bring_back_a_published_event(state: State) -> None:
    state.enqueue_events([event("a")])
    state.mark_published(["a"])
    state.mark_publish_failed(["a"], "timeout")
    assert names(state) == []


def test_published_events_are_forgotten_after_a_week(state: State, look: Look, clock: Clock) -> None:
    state.enqueue_events([event("old"), event("waiting")])
    state.mark_published(["old"])
    clock.forward(days=8)
    state.enqueue_events([event("new")])
    state.mark_published(["new"])
    assert look.rows("SELECT event_id FROM outbox ORDER BY id") == [("waiting",), ("new",)]


def test_a_payload_comes_back_as_it_went_in(state: State) -> None:
    payload = '{"a":"\\u0000 é \U000f0000"}'
    state.enqueue_events([type(event("x"))("x", payload)])
    assert state.pending_events(1)[0].payload == payload


def test_of_several_ways_out_those_that_have_an_event_are_remembered(state: State) -> None:
    state.enqueue_events([event("a"), event("b"), event("c")])
    state.mark_published(["c"])
    state.mark_arrived({"a": ("http", "file"), "c": ("file",), "unknown": ("file",)})
    assert [(e.event_id, e.arrived) for e in state.pending_events(10)] == [("a", ("file", "http")), ("b", ())]
