"""The API as its documentation describes it: tokens, pages, cursors, signatures, photos, stores."""

import hashlib
import io
from datetime import datetime

import pytest
import requests
from PIL import Image, ImageOps

from tests.unit.demo.conftest import Visitor


def ids(rows: list[dict[str, str]]) -> list[str]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic ZGVtbw=="}])
@pytest.mark.parametrize("path", ["/v1/images", "/v1/stores", "/control/log", "/control/faults"])
def test_without_the_token_nothing_is_told(api: Visitor, path: str, headers: dict[str, str]) -> None:
    answer = api.get(path, headers=headers)
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("limit", [1, 4, 7, 500])
def test_pages_show_every_photo_once_and_in_order(api: Visitor, limit: int) -> None:
    pages = api.pages(limit=limit)
    rows = [row for page in pages for row in page["images"]]
    assert rows == api.control.images()
    assert all(len(page["images"]) == limit for page in pages[:-1])
    keys = [(row["updated_at"], row["id"]) for row in rows]
    assert keys == sorted(keys)


def test_photos_that_arrive_between_two_pages_are_neither_lost_nor_doubled(api: Visitor) -> None:
    first = api.page(limit=5)
    added, _ = api.control.advance(3)
    rows = first["images"] + [row for page in api.pages(limit=5, cursor=first["next_cursor"]) for row in page["images"]]
    assert ids(rows) == ids(api.control.images())
    assert set(added) <= set(ids(rows))


def test_updated_after_is_inclusive(api: Visitor) -> None:
    rows = api.control.images()
    assert api.page(updated_after=rows[4]["updated_at"])["images"] == rows[4:]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"updated_after": "yesterday"}, 422),
        ({"updated_after": "2026-03-02T06:00:00"}, 422),
        ({"limit": "0"}, 422),
        ({"limit": "501"}, 422),
        ({"cursor": "bm90aGluZw"}, 400),
        ({"cursor": "x"}, 400),
        ({"cursor": "é"}, 400),
    ],
)
def test_what_makes_no_sense_is_refused(api: Visitor, params: dict[str, str], status: int) -> None:
    assert api.get("/v1/images", params=params).status_code == status


def test_rows_have_the_fields_that_are_documented_and_more(api: Visitor) -> None:
    row = api.page(limit=1)["images"][0]
    assert {"id", "etag", "sha256", "bytes", "width", "height", "url", "captured_at", "updated_at"} <= set(row)
    assert {"store_id", "camera_id", "boxes", "firmware", "door_open_ms"} <= set(row)
    assert set(row["boxes"][0]) == {"id", "xmin", "ymin", "xmax", "ymax", "label", "score"}
    assert datetime.fromisoformat(row["captured_at"]) < datetime.fromisoformat(row["updated_at"])


def test_photos_are_what_their_row_says_however_they_are_stored(api: Visitor) -> None:
    stored_turned = 0
    for row in api.control.images():
        answer = api.photo(row)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["content-length"] == str(row["bytes"])
        assert answer.headers["etag"] == f'"{row["etag"]}"'
        assert hashlib.sha256(answer.content).hexdigest() == row["sha256"]
        picture = Image.open(io.BytesIO(answer.content))
        upright = ImageOps.exif_transpose(picture)
        assert upright.size == (row["width"], row["height"])
        stored_turned += picture.size != upright.size
    assert stored_turned


def test_a_photo_that_is_known_is_not_sent_again(api: Visitor) -> None:
    row = api.control.images()[0]
    answer = api.get(row["url"], headers={"If-None-Match": f'"{row["etag"]}"'})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize("signature", ["", "?sig=", "?sig=00000000000000000000000000000000", "?sig=%C3%A9"])
def test_a_wrong_signature_is_refused(api: Visitor, signature: str) -> None:
    row = api.control.images()[0]
    assert api.get(row["url"].partition("?")[0] + signature).status_code == 403


def test_a_signature_opens_its_own_photo_only(api: Visitor) -> None:
    one, other = api.control.images()[:2]
    assert api.get(other["url"].partition("?")[0] + "?" + one["url"].partition("?")[2]).status_code == 403


def test_every_photo_is_of_a_camera_and_store_that_are_listed(api: Visitor) -> None:
    listed = api.get("/v1/stores").json()
    cameras = {camera["camera_id"]: camera for camera in listed["cameras"]}
    stores = {store["store_id"] for store in listed["stores"]}
    assert set(listed["stores"][0]) == {"store_id", "name", "city", "region", "format"}
    assert set(listed["cameras"][0]) == {"camera_id", "store_id", "model", "aisle"}
    for row in api.control.images():
        assert cameras[row["camera_id"]]["store_id"] == row["store_id"] in stores


def test_a_changed_box_is_listed_again_with_its_old_etag(api: Visitor) -> None:
    before = api.control.images()[0]
    after = api.control.change_box(before["id"], "b02")
    assert api.page(updated_after=after["updated_at"])["images"] == [after]
    assert (after["etag"], after["sha256"]) == (before["etag"], before["sha256"])
    changed = [now["id"] for now, was in zip(after["boxes"], before["boxes"], strict=True) if now != was]
    assert changed == ["b02"]


def test_a_changed_picture_is_listed_again_with_a_new_etag(api: Visitor) -> None:
    before = api.control.images()[0]
    after = api.control.change_etag(before["id"])
    assert api.page(updated_after=after["updated_at"])["images"] == [after]
    assert after["etag"] != before["etag"]
    assert after["sha256"] != before["sha256"]
    assert after["boxes"] == before["boxes"]
    assert hashlib.sha256(api.photo(after).content).hexdigest() == after["sha256"]


def test_changing_what_does_not_exist_is_refused(api: Visitor) -> None:
    with pytest.raises(requests.HTTPError, match="404"):
        api.control.change_etag("no-such-image")


def test_late_photos_appear_behind_what_was_listed(api: Visitor) -> None:
    newest = api.control.images()[-1]["updated_at"]
    _, late = api.control.advance(2, late=1)
    assert late[0] in ids(api.page()["images"])
    assert late[0] not in ids(api.page(updated_after=newest)["images"])


def test_documentation_describes_the_rows(api: Visitor) -> None:
    described = api.get("/openapi.json").json()
    assert "ImageItem" in described["components"]["schemas"]
    assert "Inclusive" in str(described["paths"]["/v1/images"]["get"]["parameters"])
    assert api.get("/docs").ok


def test_the_log_tells_what_was_asked_without_signatures(api: Visitor) -> None:
    row = api.page(limit=1)["images"][0]
    api.photo(row)
    api.get(row["url"].partition("?")[0], headers={})
    api.get("/healthz")
    path = f"/images/{row['id']}.jpg"
    log = api.control.log()
    assert [(entry["path"], entry["status"]) for entry in log] == [("/v1/images", 200), (path, 200), (path, 403)]
    assert [entry["authorized"] for entry in log] == [True, False, False]
    assert log[1]["bytes"] == row["bytes"]
    assert log[1]["complete"]
    assert api.control.counts() == {row["id"]: 2}
