"""Where a poll stops and what it stores: the cursor never passes an item that was not landed."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from cropline.config.settings import ApiSettings, Settings
from cropline.config.state import StateSettings
from cropline.core.errors import ApiRefused, ApiUnavailable
from cropline.intake.sources.base import Page
from cropline.state import State
from tasks import poll
from tests.unit.cropline.intake.sources.listing_server import Listing, listing

__all__ = ["listing"]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(StateSettings(url=SecretStr(f"sqlite:///{tmp_path / 'state.db'}"))) as opened:
        yield opened


def item(number: int, minute: int) -> dict[str, Any]:
    return {"id": number, "updated_at": f"2026-11-22T08:{minute:02}:00+00:00"}


def run_of(state: State, **changes: Any) -> Any:
    api = ApiSettings(**({"url": "http://cameras.example", "max_pages": 2} | changes))
    return SimpleNamespace(state=state, settings=Settings(api=api), once=False, on_progress=lambda *_: None)


def read(state: State, items: list[dict[str, Any]], size: int = 2, begun: str = "2026-11-22T00:00:00+00:00") -> Any:
    reader = poll._Reader(run_of(state), poll._moment(begun))
    spool = io.StringIO()
    pages = [Page(items[at : at + size], begins=at == 0) for at in range(0, len(items), size)]
    complete = reader.read(iter(pages), spool)
    return complete, reader, [json.loads(line)["id"] for line in spool.getvalue().splitlines()]


def test_a_listing_that_ends_at_the_bound_is_complete(state: State) -> None:
    complete, reader, got = read(state, [item(n, n) for n in range(4)])
    assert (complete, got, reader.newest.minute) == (True, [0, 1, 2, 3], 3)


def test_a_poll_stops_at_max_pages_and_its_cursor_stays_below_what_may_be_cut(state: State) -> None:
    complete, reader, got = read(state, [item(n, n // 2) for n in range(20)], size=3)
    assert (complete, len(got)) == (False, 6)
    # More items with the same time may follow after the cut.
    assert (reader.newest.minute, reader.passed.minute) == (2, 1)


def test_a_poll_continues_within_equal_times_that_exceed_max_pages(state: State) -> None:
    items = [*(item(n, 5) for n in range(30)), *(item(n, n) for n in range(30, 36))]
    complete, reader, got = read(state, items)
    assert not complete
    assert got == list(range(32))
    assert (reader.passed.minute, reader.newest.minute) == (30, 31)


def test_a_poll_that_starts_within_many_equal_times_gets_past_them(state: State) -> None:
    items = [*(item(n, 5) for n in range(30)), item(30, 6), item(31, 7)]
    complete, _, got = read(state, items, begun="2026-11-22T08:05:00+00:00")
    assert (complete, got) == (True, list(range(32)))


def test_pages_of_nothing_but_known_items_do_not_use_up_the_bound(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item(n, n) for n in range(20)]
    known = {poll.manifest.item_digest(one) for one in items[:12]}
    monkeypatch.setattr(state, "unseen", lambda source, digests: set(digests) - known)
    complete, _, got = read(state, items)
    assert (complete, got) == (False, [12, 13, 14, 15])


@pytest.mark.parametrize("order", ["newest first", "none"])
def test_a_listing_out_of_order_is_never_cut(state: State, order: str) -> None:
    minutes = range(20, 0, -1) if order == "newest first" else [1, 3, 2, *range(4, 20)]
    with pytest.raises(ApiRefused, match="CROPLINE_API__MAX_PAGES"):
        read(state, [item(n, minute) for n, minute in enumerate(minutes)])


def test_a_restarted_listing_is_checked_for_its_order_again(state: State) -> None:
    reader = poll._Reader(run_of(state), poll._moment("2026-11-22T00:00:00+00:00"))
    pages = [Page([item(1, 30)], True), Page([item(2, 10)], True), Page([item(3, 11)]), Page([item(4, 12)])]
    assert not reader.read(iter(pages), io.StringIO())
    # The first reading was abandoned, so its times do not count.
    assert (reader.passed.minute, reader.newest.minute) == (10, 11)


def test_an_item_that_is_too_large_is_spooled_without_its_large_field(state: State) -> None:
    reader = poll._Reader(run_of(state, max_item_bytes=1_000), poll._moment("2026-11-22T00:00:00+00:00"))
    spool = io.StringIO()
    assert reader.read(iter([Page([item(1, 1) | {"note": "x" * 5_000}], True)]), spool)
    assert json.loads(spool.getvalue())["id"] == 1
    assert len(spool.getvalue()) < 1_000


def test_the_api_is_not_called_during_its_pause(state: State, listing: Listing) -> None:
    listing.script = lambda query, _: (429, {"Retry-After": "600"}, b"")
    run = run_of(state, url=listing.url, retries=5)
    with pytest.raises(ApiUnavailable, match="asks to wait 600 s"):
        poll.anything_new(run, False)
    assert len(listing.requests) == 1
    with pytest.raises(ApiUnavailable, match=r"asked for a pause, of which \d+ s are left"):
        poll.anything_new(run, False)
    assert len(listing.requests) == 1


def test_the_api_is_called_again_after_its_pause(tmp_path: Path, listing: Listing) -> None:
    from datetime import UTC, datetime, timedelta

    now = [datetime(2026, 11, 22, tzinfo=UTC)]
    settings = StateSettings(url=SecretStr(f"sqlite:///{tmp_path / 'clock.db'}"))
    with State.open(settings, clock=lambda: now[0]) as state:
        state.keep_quiet("cameras", timedelta(seconds=60))
        assert state.quiet_for("cameras") == timedelta(seconds=60)
        assert state.quiet_for("others") is None
        assert state.cursor("cameras") is None
        now[0] += timedelta(seconds=61)
        assert state.quiet_for("cameras") is None
        assert not poll.anything_new(run_of(state, url=listing.url), False)
