"""Whole listings over HTTP with the habits of real servers: every item arrives, or one line names the setting to check."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from cropline.config.settings import ApiSettings
from cropline.core.errors import ApiRefused, ApiUnavailable
from cropline.intake.image_api import pages
from tests.unit.cropline.intake.sources.listing_server import Answer, Listing, listing

__all__ = ["listing"]

SINCE = "2026-11-22T00:00:00+00:00"
Query = dict[str, str]


def item(number: int, minute: int | None = None) -> dict[str, Any]:
    minute = number if minute is None else minute
    return {"id": f"i{number:03}", "updated_at": f"2026-11-22T{8 + minute // 60:02}:{minute % 60:02}:00+00:00"}


def answer(items: list[Any], **more: Any) -> Answer:
    return 200, {}, json.dumps({"images": items, **more}).encode()


def serve(listing: Listing, answers: Callable[[Query], Answer]) -> None:
    listing.script = lambda query, _: answers({name: values[0] for name, values in query.items()})


def since(table: list[dict[str, Any]], query: Query) -> list[dict[str, Any]]:
    return sorted(
        (row for row in table if row["updated_at"] >= query["updated_after"]), key=lambda row: row["updated_at"]
    )


def read(listing: Listing, **changes: Any) -> list[str]:
    settings = ApiSettings(**({"url": listing.url, "retries": 0, "page_size": 10} | changes))
    return [row["id"] for page in pages(settings, SINCE) for row in page]


def ids(count: int) -> list[str]:
    return [f"i{number:03}" for number in range(count)]


TABLE = [item(number) for number in range(25)]


@pytest.mark.parametrize("cap", [1, 3, 4, 10, 50])
@pytest.mark.parametrize("stride", ["asked", "given"])
def test_a_server_that_gives_less_than_is_asked_for_is_read_to_its_end(listing: Listing, cap: int, stride: str) -> None:
    def by_page(query: Query) -> Answer:
        page, limit = int(query["page"]), int(query["limit"])
        length = min(cap, limit)
        start = (page - 1) * (limit if stride == "asked" else length)
        return answer(since(TABLE, query)[start : start + length] if start >= 0 else [])

    serve(listing, by_page)
    assert sorted(set(read(listing, paginator="page_number"))) == ids(25)

    def by_offset(query: Query) -> Answer:
        start = int(query["offset"])
        return answer(since(TABLE, query)[start : start + min(cap, int(query["limit"]))])

    serve(listing, by_offset)
    assert sorted(set(read(listing, paginator="offset"))) == ids(25)


@pytest.mark.parametrize("zeroth", ["400", "404", "500", "empty", "as page 1", "python slice", "counts from 0"])
@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 25])
def test_pages_may_be_counted_from_0_or_1(listing: Listing, zeroth: str, rows: int) -> None:
    def answers(query: Query) -> Answer:
        page, limit = int(query["page"]), int(query["limit"])
        if zeroth == "counts from 0":
            page += 1
        elif page == 0 and zeroth in ("400", "404", "500"):
            return int(zeroth), {}, b"{}"
        elif page == 0 and zeroth == "empty":
            return answer([])
        elif page == 0 and zeroth == "as page 1":
            page = 1
        table = since(TABLE[:rows], query)
        return answer(table[(page - 1) * limit : page * limit])

    serve(listing, answers)
    assert sorted(set(read(listing, paginator="page_number"))) == ids(rows)


def test_a_first_page_that_is_set_is_not_looked_for(listing: Listing) -> None:
    serve(listing, lambda query: answer(TABLE[:3] if query["page"] == "0" else []))
    assert read(listing, paginator="page_number", first_page=0) == ids(3)
    assert [query["page"][0] for query, _ in listing.requests] == ["0", "1"]


@pytest.mark.parametrize("kind", ["page_number", "offset"])
@pytest.mark.parametrize("rows", [1, 9, 10, 11, 20, 25])
def test_404_past_the_end_is_an_end(listing: Listing, kind: str, rows: int) -> None:
    def answers(query: Query) -> Answer:
        start = int(query["offset"]) if kind == "offset" else 10 * (int(query["page"]) - 1)
        found = since(TABLE[:rows], query)[start : start + 10] if start >= 0 else []
        return answer(found) if found else (404, {}, b'{"detail": "Invalid page."}')

    serve(listing, answers)
    assert sorted(set(read(listing, paginator=kind))) == ids(rows)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("page_number", "CROPLINE_API__PAGE_PARAM"),
        ("offset", "CROPLINE_API__OFFSET_PARAM"),
        ("cursor", "CROPLINE_API__HAS_MORE_PATH"),
    ],
)
def test_a_server_that_gives_the_first_page_for_ever_is_left_after_some_calls(
    listing: Listing, kind: str, setting: str
) -> None:
    serve(listing, lambda query: answer(TABLE[:10], next_cursor=f"c{len(listing.requests)}"))
    with pytest.raises(ApiRefused, match=setting):
        read(listing, paginator=kind)
    assert len(listing.requests) < 8


@pytest.mark.parametrize("kind", ["page_number", "offset", "cursor", "next_url"])
@pytest.mark.parametrize("how", ["edited", "deleted", "inserted above"])
def test_rows_that_move_while_they_are_read_are_all_read(listing: Listing, kind: str, how: str) -> None:
    """After the second answer a row moves. Cursors and links that count rows are no better than offsets."""
    table = [item(number) for number in range(12)]
    changed = []

    def answers(query: Query) -> Answer:
        rows = since(table, query)
        asked = {"page_number": "page", "offset": "offset", "cursor": "cursor", "next_url": "offset"}[kind]
        start = int(query.get(asked, 0))
        start = 4 * (start - 1) if kind == "page_number" else start
        found = rows[start : start + 4] if start >= 0 else []
        more = start + 4 if start + 4 < len(rows) else None
        link = more and f"/v1/images?offset={more}&updated_after={query['updated_after'].replace('+', '%2B')}"
        if found and not changed:
            changed.append(True)
            if how == "edited":
                table[0] |= {"updated_at": "2026-11-22T20:00:00+00:00"}
            elif how == "deleted":
                del table[0]
            else:
                table.insert(0, item(99, -30))
        return answer(found, next_cursor=more, next=link)

    serve(listing, answers)
    got = set(read(listing, paginator=kind, page_size=4, first_page=1))
    assert set(ids(12)) - {"i000"} <= got


def test_a_listing_that_never_stands_still_is_unavailable_not_complete(listing: Listing) -> None:
    def answers(query: Query) -> Answer:
        turn = len(listing.requests)
        return answer([{"id": f"{turn}-{number}"} for number in range(10)])

    serve(listing, answers)
    with pytest.raises(ApiUnavailable, match="rows moved") as caught:
        read(listing, paginator="page_number", first_page=1)
    assert "the next poll reads it again" in str(caught.value)
    assert len(listing.requests) < 15


def test_a_listing_that_loses_rows_all_the_time_is_still_read_to_its_end(listing: Listing) -> None:
    """Each reading restarts from where the order by time allows, so it makes progress."""
    table = [item(number) for number in range(40)]

    def answers(query: Query) -> Answer:
        rows = since(table, query)
        start = 4 * (int(query["page"]) - 1)
        if query["page"] == "2" and table[0]["id"] != "i030":
            del table[0]
        return answer(since(table, query)[start : start + 4] if start else rows[:4])

    serve(listing, answers)
    got = read(listing, paginator="page_number", page_size=4, first_page=1)
    assert got[-1] == "i039"
    assert set(ids(40)) - set(got) <= set(ids(30))


@pytest.mark.parametrize(
    "last", ["leads to nothing", "to nothing, again and again", "to its own last item", "none", "null", "empty text"]
)
def test_a_cursor_on_the_last_page_too_is_an_end(listing: Listing, last: str) -> None:
    def answers(query: Query) -> Answer:
        start = int(query.get("cursor", "k0")[1:])
        if last == "to its own last item" and start:
            start -= 1  # begins with the last item, as keyset cursors that include it do
        found = TABLE[:25][start : start + 10]
        after = min(start + 10, 25)
        named: dict[str, Any] = {"next_cursor": f"k{after}"}
        if after == 25 and last == "none":
            named = {}
        elif after == 25 and last in ("null", "empty text"):
            named = {"next_cursor": None if last == "null" else ""}
        elif last == "leads to nothing" and not found:
            named = {"next_cursor": None}
        return answer(found, **named)

    serve(listing, answers)
    assert sorted(set(read(listing))) == ids(25)


def test_a_last_page_that_names_itself_is_an_end_when_the_total_says_so(listing: Listing) -> None:
    serve(listing, lambda query: answer(TABLE[:10], next_cursor="same", total=10))
    assert sorted(set(read(listing, total_path="total"))) == ids(10)
    serve(listing, lambda query: answer(TABLE[:10], next_cursor="same", more_to_come=False))
    assert read(listing, has_more_path="more_to_come") == ids(10)


@pytest.mark.parametrize(
    ("total", "asked", "setting"),
    [
        ({"total": 11}, {}, "CROPLINE_API__TOTAL_PATH"),
        ({"meta": {"count": 12}}, {"total_path": "meta.count"}, "says that it has 12 items but returned 10"),
        ({"meta": {"count": 3}}, {"total_path": "meta.count"}, "says that it has 3 items but returned 10"),
        ({"meta": {}}, {"total_path": "meta.count"}, "no number at 'meta.count'"),
    ],
)
def test_a_total_that_does_not_match_fails(
    listing: Listing, total: dict[str, Any], asked: dict[str, Any], setting: str
) -> None:
    serve(listing, lambda query: answer(TABLE[:10], next_cursor=None, **total))
    with pytest.raises(ApiRefused, match=setting):
        read(listing, **asked)


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        ({"total": 3}, {}),  # counts something else: no setting says that it is the listing's total
        ({"total": 99}, {"total_path": ""}),
        ({"total": "many"}, {}),
        ({"total": 10}, {}),
    ],
)
def test_a_total_that_nobody_named_fails_nothing_it_cannot_prove(
    listing: Listing, more: dict[str, Any], changes: dict[str, Any]
) -> None:
    serve(listing, lambda query: answer(TABLE[:10], next_cursor=None, **more))
    assert sorted(set(read(listing, **changes))) == ids(10)


@pytest.mark.parametrize("kind", ["single_page", "cursor", "header_link", "next_url"])
def test_a_page_that_is_full_and_says_nothing_of_its_end_is_read_on_by_time(listing: Listing, kind: str) -> None:
    serve(listing, lambda query: answer(since(TABLE, query)[: int(query["limit"])]))
    assert sorted(set(read(listing, paginator=kind))) == ids(25)


@pytest.mark.parametrize("moments", ["one", "newest first", "none"])
def test_a_full_page_that_cannot_be_read_on_fails_and_names_the_paginator(listing: Listing, moments: str) -> None:
    table = {
        "one": [item(number, 5) for number in range(10)],
        "newest first": TABLE[9::-1],
        "none": [{"id": number} for number in range(10)],
    }[moments]
    serve(listing, lambda query: answer(table))
    with pytest.raises(ApiRefused, match="CROPLINE_API__PAGINATOR"):
        read(listing, paginator="single_page")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"next": "https://cameras.example/v1/images?page=2"}, "names a next page at next"),
        ({"meta": {"next_page": 2}}, "names a next page at meta.next_page"),
        ({"has_more": True}, "has_more: true"),
        ({"pageInfo": {"hasNextPage": True}}, "hasNextPage: true"),
    ],
)
def test_a_last_page_that_speaks_of_a_next_one_is_not_believed(
    listing: Listing, more: dict[str, Any], says: str
) -> None:
    serve(listing, lambda query: answer(TABLE[:4], next_cursor=None, **more))
    with pytest.raises(ApiRefused, match=says):
        read(listing)


def test_a_link_header_that_nobody_follows_is_named(listing: Listing) -> None:
    listing.script = lambda query, _: (200, {"Link": '</v1/images?page=2>; rel="next"'}, answer(TABLE[:4])[2])
    with pytest.raises(ApiRefused, match="header_link"):
        read(listing)


def test_changes_of_the_same_photos_are_items_of_their_own(listing: Listing) -> None:
    """An API that lists changes returns a photo once per change: no page is a repeat of another."""
    table = [item(number, 30 * turn + number) for turn in range(3) for number in range(10)]
    serve(listing, lambda q: answer(since(table, q)[10 * int(q["page"]) - 10 : 10 * int(q["page"])]))
    assert read(listing, paginator="page_number", first_page=1) == ids(10) * 3


def test_empty_pages_with_new_cursors_are_followed_but_not_for_ever(listing: Listing) -> None:
    serve(
        listing,
        lambda q: answer(TABLE[:1] if len(listing.requests) == 5 else [], next_cursor=f"c{len(listing.requests)}"),
    )
    with pytest.raises(ApiRefused, match="CROPLINE_API__HAS_MORE_PATH"):
        read(listing)
    assert len(listing.requests) < 120


def test_items_of_a_nested_listing_carry_the_objects_around_them(listing: Listing) -> None:
    photos = [{"id": "a"}, {"id": "b", "parent": "its own"}]
    body = {
        "region": "north",
        "visits": [{"store": {"id": 7}, "tags": [1], "photos": photos}, {"store": {"id": 8}, "photos": []}],
    }
    listing.script = lambda query, _: (200, {}, json.dumps(body).encode())
    settings = ApiSettings(url=listing.url, retries=0, data_selector="visits[*].photos[*]")
    [[first, second]] = pages(settings, SINCE)
    assert first == {"id": "a", "parent": {"store": {"id": 7}, "tags": [1], "parent": {"region": "north"}}}
    assert second == photos[1]


@pytest.mark.parametrize("body", [{"visits": []}, {"visits": [{"photos": []}]}, {"visits": None}])
def test_a_nested_listing_may_be_empty_at_any_level(listing: Listing, body: dict[str, Any]) -> None:
    listing.script = lambda query, _: (200, {}, json.dumps(body).encode())
    settings = ApiSettings(url=listing.url, retries=0, data_selector="visits[*].photos[*]")
    assert list(pages(settings, SINCE)) == [[]]


@pytest.mark.parametrize("body", [{"visit": []}, {"visits": [{"photo": []}]}])
def test_a_nested_listing_that_is_not_there_is_not_empty(listing: Listing, body: dict[str, Any]) -> None:
    listing.script = lambda query, _: (200, {}, json.dumps(body).encode())
    settings = ApiSettings(url=listing.url, retries=0, data_selector="visits[*].photos[*]")
    with pytest.raises(ApiRefused, match="CROPLINE_API__DATA_SELECTOR"):
        list(pages(settings, SINCE))


def test_a_long_pause_that_page_0_asks_for_is_kept(listing: Listing) -> None:
    listing.script = lambda query, _: (429, {"Retry-After": "600"}, b"")
    with pytest.raises(ApiUnavailable, match="asks to wait 600 s"):
        read(listing, paginator="page_number", retries=3)
    assert len(listing.requests) == 1


@pytest.mark.parametrize("kind", ["offset", "page_number"])
def test_pages_of_one_item_are_read_to_their_end(listing: Listing, kind: str) -> None:
    def answers(query: Query) -> Answer:
        start = int(query["offset"]) if kind == "offset" else int(query["page"]) - 1
        return answer(since(TABLE[:5], query)[start : start + 1] if start >= 0 else [])

    serve(listing, answers)
    assert sorted(set(read(listing, paginator=kind, page_size=1))) == ids(5)


@pytest.mark.parametrize("status", [400, 416, 422])
@pytest.mark.parametrize("kind", ["page_number", "offset"])
@pytest.mark.parametrize("rows", [1, 9, 11, 25])
def test_a_refusal_past_a_short_page_is_an_end(listing: Listing, kind: str, rows: int, status: int) -> None:
    def answers(query: Query) -> Answer:
        limit = int(query["limit"])
        start = int(query["offset"]) if kind == "offset" else limit * (int(query["page"]) - 1)
        found = since(TABLE[:rows], query)[start : start + limit] if start >= 0 else []
        return answer(found) if found else (status, {}, b"{}")

    serve(listing, answers)
    assert sorted(set(read(listing, paginator=kind))) == ids(rows)


@pytest.mark.parametrize("status", [400, 416, 422])
@pytest.mark.parametrize("window", [10, 20])
def test_a_refusal_past_a_full_page_may_be_a_window_of_the_api_and_names_the_setting(
    listing: Listing, status: int, window: int
) -> None:
    told: dict[str, int] = {}

    def answers(query: Query) -> Answer:
        limit, page = int(query["limit"]), int(query["page"])
        if page < 1 or page * limit > window:
            return status, {}, b"{}"
        return answer(TABLE[(page - 1) * limit : page * limit], **told)

    serve(listing, answers)
    with pytest.raises(ApiRefused, match="CROPLINE_API__TOTAL_PATH or CROPLINE_API__HAS_MORE_PATH"):
        read(listing, paginator="page_number")
    told["total"] = 25
    with pytest.raises(ApiRefused):
        read(listing, paginator="page_number")


@pytest.mark.parametrize("rows", [11, 20, 25])
@pytest.mark.parametrize("told", [True, False])
def test_the_last_page_again_is_an_end_when_it_is_short_or_all_items_came(
    listing: Listing, rows: int, told: bool
) -> None:
    def answers(query: Query) -> Answer:
        found, limit = since(TABLE[:rows], query), int(query["limit"])
        page = min(max(int(query["page"]), 1), -(-len(found) // limit))
        return answer(found[(page - 1) * limit : page * limit], **({"total": len(found)} if told else {}))

    serve(listing, answers)
    if rows % 10 == 0 and not told:
        with pytest.raises(ApiRefused, match="its last page comes again and is full.*CROPLINE_API__TOTAL_PATH"):
            read(listing, paginator="page_number")
    else:
        assert sorted(set(read(listing, paginator="page_number"))) == ids(rows)


@pytest.mark.parametrize("asked", [10, 50])
@pytest.mark.parametrize("kind", ["page_number", "offset", "cursor"])
def test_a_total_that_is_the_length_of_the_page_hides_no_server_that_ignores_where_it_is_asked_to_go_on(
    listing: Listing, kind: str, asked: int
) -> None:
    """When the same page comes for every request, its ``total`` of as many items says nothing, unless the settings name it."""
    serve(listing, lambda query: answer(TABLE[:10], next_cursor="c1", total=10))
    with pytest.raises(ApiRefused):
        read(listing, paginator=kind, page_size=asked)


@pytest.mark.parametrize("rows", [8, 9, 10])
@pytest.mark.parametrize("past", ["empty", "404", "400"])
def test_a_cap_is_noticed_when_only_items_of_the_first_page_lie_behind_it(
    listing: Listing, rows: int, past: str
) -> None:
    """The server gives 7 and counts its pages by what it was asked for: page 2 of 10 would begin behind the last item."""

    def answers(query: Query) -> Answer:
        limit, page = int(query["limit"]), int(query["page"])
        start = limit * (page - 1)
        found = since(TABLE[:rows], query)[start : start + min(limit, 7)] if page > 0 else []
        return answer(found) if found or past == "empty" else (int(past), {}, b"{}")

    serve(listing, answers)
    assert sorted(set(read(listing, paginator="page_number"))) == ids(rows)
