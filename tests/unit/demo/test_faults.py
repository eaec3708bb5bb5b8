"""Every fault is visible on the wire, affects what it was set for as often as it was set, and then stops."""

import hashlib
import io
import json
import math
import time
from typing import Any

import pytest
import requests
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError

from demo import faults
from demo.faults import IMAGE_FAULTS, LISTING_FAULTS, ROW_FAULTS, Fault, FaultBook, FaultRule
from tests.unit.demo.conftest import Visitor

Row = dict[str, Any]


def first(api: Visitor) -> Row:
    row: Row = api.control.images()[0]
    return row


def struck(api: Visitor, fault: Fault, **options: Any) -> tuple[Row, requests.Response]:
    """Return the row of one photo under a fault and the response for the photo."""
    row = first(api)
    api.control.add_fault(fault, image_id=row["id"], times=1, **options)
    return row, api.photo(row, allow_redirects=False, stream=True)


def spoilt(api: Visitor, fault: Fault) -> list[Any]:
    """Return the first rows of the listing while the first photo has a fault."""
    api.control.add_fault(fault, image_id=first(api)["id"])
    rows: list[Any] = api.page()["images"]
    return rows


def test_every_fault_says_what_cropline_is_expected_to_do() -> None:
    table = (faults.__doc__ or "").split("=\n")[2]
    named = {line.split()[0] for line in table.splitlines() if line and not line.startswith((" ", "="))}
    assert named == {fault.value for fault in Fault}


def test_every_fault_strikes_something() -> None:
    alone = {Fault.BROKEN_ORIGINAL, Fault.LATE_ARRIVAL}
    assert set(Fault) == LISTING_FAULTS | IMAGE_FAULTS | ROW_FAULTS | alone


# Pages


def test_listing_429_says_when_to_come_again(api: Visitor) -> None:
    api.control.add_fault(Fault.LISTING_429, times=2, seconds=2.5)
    answers = [api.get("/v1/images") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "3"


def test_listing_500_and_html_are_no_pages(api: Visitor) -> None:
    api.control.add_fault(Fault.LISTING_500, times=1)
    api.control.add_fault(Fault.LISTING_HTML, times=1)
    assert api.get("/v1/images").status_code == 500
    answer = api.get("/v1/images")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert api.get("/v1/images").json()["images"]


@pytest.mark.parametrize("limit", [3, 500])
def test_cursor_loop_never_ends(api: Visitor, limit: int) -> None:
    api.control.add_fault(Fault.LISTING_CURSOR_LOOP)
    cursor = api.page(limit=limit)["next_cursor"]
    assert cursor
    assert all(api.page(limit=limit, cursor=cursor)["next_cursor"] == cursor for _ in range(3))


# Photos


@pytest.mark.parametrize(
    ("fault", "status"), [(Fault.IMAGE_429, 429), (Fault.IMAGE_500, 500), (Fault.IMAGE_MISSING, 404)]
)
def test_a_refused_photo_comes_when_the_fault_is_used_up(api: Visitor, fault: Fault, status: int) -> None:
    row, answer = struck(api, fault)
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == ("1" if status == 429 else None)
    assert api.photo(row).ok


def test_html_comes_in_place_of_a_photo_and_calls_itself_a_success(api: Visitor) -> None:
    _, answer = struck(api, Fault.IMAGE_HTML)
    assert answer.status_code == 200
    assert answer.text.startswith("<!doctype html>")


def test_redirect_leads_to_the_metadata_service(api: Visitor) -> None:
    _, answer = struck(api, Fault.IMAGE_REDIRECT)
    assert (answer.status_code, answer.headers["location"][:23]) == (302, "http://169.254.169.254/")


def test_slow_drip_trickles(api: Visitor) -> None:
    row, answer = struck(api, Fault.IMAGE_SLOW_DRIP, seconds=0.05)
    started = time.monotonic()
    pieces = answer.iter_content(1024)
    got = b"".join(next(pieces) for _ in range(5))
    assert time.monotonic() - started > 0.1
    assert len(got) == 5 * 1024
    answer.close()
    assert api.control.log()[-1]["bytes"] < row["bytes"]


@pytest.mark.parametrize("fault", [Fault.IMAGE_TRUNCATED, Fault.IMAGE_TRUNCATED_CHUNKED])
def test_truncated_body_breaks_off(api: Visitor, fault: Fault) -> None:
    row, answer = struck(api, fault)
    announced = answer.headers.get("content-length")
    assert announced == (str(row["bytes"]) if fault is Fault.IMAGE_TRUNCATED else None)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        _ = answer.content
    entry = api.control.log()[-1]
    assert not entry["complete"]
    assert entry["bytes"] == row["bytes"] // 2


def test_silently_truncated_body_looks_whole(api: Visitor) -> None:
    row, answer = struck(api, Fault.IMAGE_TRUNCATED_SILENTLY)
    assert len(answer.content) == row["bytes"] // 2
    assert "content-length" not in answer.headers


def test_corrupt_scan_decodes_and_is_not_what_was_listed(api: Visitor) -> None:
    row, answer = struck(api, Fault.IMAGE_CORRUPT_SCAN)
    assert len(answer.content) == row["bytes"]
    assert hashlib.sha256(answer.content).hexdigest() != row["sha256"]
    Image.open(io.BytesIO(answer.content)).load()


def test_corrupt_header_cannot_be_opened(api: Visitor) -> None:
    row, answer = struck(api, Fault.IMAGE_CORRUPT_HEADER)
    assert len(answer.content) == row["bytes"]
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(answer.content))


def test_gzip_bomb_is_small_until_it_is_unpacked(api: Visitor) -> None:
    _, answer = struck(api, Fault.IMAGE_GZIP_BOMB)
    assert int(answer.headers["content-length"]) < 32 * 1024
    assert len(answer.content) == 24 * 1024 * 1024


def test_broken_original_is_listed_honestly(api: Visitor) -> None:
    api.control.add_fault(Fault.BROKEN_ORIGINAL, image_id=first(api)["id"])
    row = api.page(limit=1)["images"][0]
    content = api.photo(row).content
    assert hashlib.sha256(content).hexdigest() == row["sha256"]
    assert len(content) == row["bytes"]
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(content))


# Rows


def test_row_faults_spoil_one_row_and_leave_the_rest(api: Visitor) -> None:
    good = api.control.images()
    for fault in sorted(ROW_FAULTS):
        api.control.clear_faults()
        rows = spoilt(api, fault)
        assert rows[-len(good) + 1 :] == good[1:], fault
        assert fault is Fault.ROW_DUPLICATE or rows[0] != good[0], fault


def test_each_row_fault_is_what_its_name_says(api: Visitor) -> None:
    seen: dict[Fault, Any] = {}
    for fault in ROW_FAULTS:
        api.control.clear_faults()
        seen[fault] = spoilt(api, fault)[0]
    boxes = {fault: row["boxes"] for fault, row in seen.items() if isinstance(row, dict)}
    assert "id" not in seen[Fault.ROW_WITHOUT_ID]
    assert isinstance(seen[Fault.ROW_NOT_AN_OBJECT], str)
    assert boxes[Fault.ROW_TEXT_COORDINATE][0]["xmin"] == "left"
    assert math.isnan(boxes[Fault.ROW_NAN_COORDINATE][0]["xmin"])
    assert boxes[Fault.ROW_INFINITE_COORDINATE][0]["xmin"] == math.inf
    assert boxes[Fault.ROW_NULL_BOXES] is None
    assert boxes[Fault.ROW_INVERTED_BOX][0]["xmin"] > boxes[Fault.ROW_INVERTED_BOX][0]["xmax"]
    assert boxes[Fault.ROW_BOX_OUTSIDE][0]["xmax"] > 1
    assert boxes[Fault.ROW_REPEATED_BOX_ID][0]["id"] == boxes[Fault.ROW_REPEATED_BOX_ID][1]["id"]
    assert seen[Fault.ROW_BAD_TIMESTAMP]["updated_at"] == "yesterday"
    assert seen[Fault.ROW_NEGATIVE_BYTES]["bytes"] < 0
    assert seen[Fault.ROW_FILE_URL]["url"].startswith("file://")
    assert seen[Fault.ROW_PRIVATE_URL]["url"].startswith("http://169.254.169.254/")


def test_nan_makes_the_page_no_json_and_infinity_does_not(api: Visitor) -> None:
    def strict(text: str) -> Any:
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    api.control.add_fault(Fault.ROW_INFINITE_COORDINATE, times=1)
    strict(api.get("/v1/images").text)
    api.control.add_fault(Fault.ROW_NAN_COORDINATE, times=1)
    assert '"xmin": NaN' in api.get("/v1/images").text


def test_duplicate_row_comes_twice(api: Visitor) -> None:
    rows = spoilt(api, Fault.ROW_DUPLICATE)
    assert rows[0] == rows[1] != rows[2]


def test_late_arrival_shows_up_with_its_old_time(api: Visitor) -> None:
    row = api.control.images()[3]
    api.control.add_fault(Fault.LATE_ARRIVAL, image_id=row["id"], times=2)
    shown = [row in api.page()["images"] for _ in range(3)]
    assert shown == [False, False, True]


# Rules


def test_counted_faults_strike_any_photo_and_then_stop(api: Visitor) -> None:
    api.control.add_fault(Fault.IMAGE_500, times=2)
    statuses = [api.photo(row).status_code for row in api.control.images()[:3]]
    assert statuses == [500, 500, 200]
    assert api.control.faults() == []


def test_faults_of_one_photo_spare_the_others(api: Visitor) -> None:
    one, other = api.control.images()[:2]
    api.control.add_fault(Fault.IMAGE_MISSING, image_id=one["id"])
    assert [api.photo(row).status_code for row in (one, other, one)] == [404, 200, 404]
    assert api.control.faults() == [FaultRule(fault=Fault.IMAGE_MISSING, image_id=one["id"])]


def test_the_fault_that_was_added_first_strikes_first() -> None:
    book = FaultBook([FaultRule(fault=Fault.IMAGE_500, times=1), FaultRule(fault=Fault.IMAGE_429)])
    strikes = [book.strike(IMAGE_FAULTS, "a") for _ in range(3)]
    assert [rule.fault for rule in strikes if rule] == [Fault.IMAGE_500, Fault.IMAGE_429, Fault.IMAGE_429]


@pytest.mark.parametrize(
    "fields",
    [
        {"fault": "no_such_fault"},
        {"fault": "listing_500", "image_id": "a"},
        {"fault": "broken_original"},
        {"fault": "broken_original", "image_id": "a", "times": 1},
        {"fault": "image_500", "times": 0},
        {"fault": "image_500", "image": "a"},
    ],
)
def test_rules_that_make_no_sense_are_refused(fields: Row) -> None:
    with pytest.raises(ValidationError):
        FaultRule(**fields)
