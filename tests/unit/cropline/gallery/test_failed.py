"""Pictures of boxes that failed, and searches that would read the whole table."""

import io
import re
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cropline.core.errors import CroplineError
from cropline.gallery.app import build
from cropline.gallery.failed import FIELDS, around_box
from cropline.gallery.filters import CropFilter
from cropline.gallery.queries import Queries
from cropline.gallery.thumbnails import Thumbnails, shrunk
from cropline.state import State
from tests.photos import with_orientation
from tests.unit.cropline.gallery.shelves import MORNING, box, failed, put, settings_in

HOSTILE = "<script>alert(1)</script>\"'\x1b[31m"
_PLACE = dict(zip(FIELDS[-6:], (400, 200, 600, 400, 1000, 800), strict=True))


def photo(colour: str = "navy") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (500, 400), colour).save(out, "JPEG")
    return out.getvalue()


class Gallery:
    """The application over a catalogue with failures; ``views`` are the photos that it fetched."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings_in(folder)
        self.views: list[str] = []
        put(self.settings, [box("one", 0), failed("one", 1, "box_outside"), failed("one", 2, "box_outside")])
        put(self.settings, [failed("gone", 0, at=MORNING - timedelta(days=40))])
        put(self.settings, [failed(HOSTILE, 0, "box_outside", box_id=HOSTILE, label=HOSTILE)])
        self.state = State.open(self.settings.state)
        with sqlite3.connect(folder / "state.db") as database:
            for reason in ("box_outside", "http_404", "never_seen"):
                database.execute(
                    "INSERT INTO images (source, image_id, profile, state, since, reason, attempts, profile_hash, version, "
                    "fingerprint, manifest, manifest_row, boxes, first_seen) VALUES ('cams', ?, 'default', 'dead', ?, ?, 5, 'p', "
                    "'v', 'f', 'm', 0, 1, ?)",
                    (reason, MORNING.isoformat(timespec="microseconds"), reason, MORNING.isoformat()),
                )
        self.thumbnails = Thumbnails(self.settings.storage.spec, folder / "cache", 1_000_000)
        app = build(self.settings, self.state, self.thumbnails, token=None, photo_view=self.view)
        self.client = TestClient(app, base_url="http://127.0.0.1")

    def view(self, row: dict[str, Any]) -> bytes:
        self.views.append(row["image_id"])
        if row["image_id"] == "gone":
            raise CroplineError(f"the photo cannot be fetched again: http_404 {HOSTILE}")
        return photo()

    def pictures(self) -> dict[str, str]:
        """Return {image id: address of its picture} of the page of runs."""
        page = self.client.get("/runs").text
        found = re.findall(
            r'href="/crop\?source=cams&amp;image=([^&]*)&amp;[^"]*">.*?src="(/failed/[^"]*)"', page, re.DOTALL
        )
        return dict(found)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    made = Gallery(tmp_path_factory.mktemp("failed"))
    yield made
    made.state.close()
    made.thumbnails.close()


def test_failures_have_example_pictures_by_reason_where_the_photo_is_still_there(gallery: Gallery) -> None:
    page = gallery.client.get("/runs").text
    sections = page.split('<section class="reason">')[1:]
    assert ["http_404" in part or "box_outside" in part or "never_seen" in part for part in sections] == [True] * 3
    assert "<script>alert" not in page
    assert "\x1b" not in page
    pictures = gallery.pictures()
    assert len(pictures) == 3, "one box of each photo"

    answer = gallery.client.get(pictures["one"])
    assert answer.headers["content-type"] == "image/jpeg"
    shown = Image.open(io.BytesIO(answer.content)).convert("RGB")
    assert max(shown.size) <= 240
    framed = sum(1 for red, _, blue in shown.get_flattened_data() if red > 150 and blue < 90)
    assert framed > 100, "the box is framed"
    gallery.client.get(pictures["one"])
    assert gallery.views.count("one") == 1, "the second is from the cache"

    for _ in range(2):
        gone = gallery.client.get(pictures["gone"])
        assert (gone.status_code, gone.headers["content-type"]) == (404, "text/plain; charset=utf-8")
        assert "\x1b" not in gone.text
    assert gallery.views.count("gone") == 1, "what is gone is asked for once"


def test_only_what_a_page_showed_is_fetched(gallery: Gallery) -> None:
    grid = gallery.client.get("/?label=cola").text
    crop = re.findall(r"/thumb/([^\"]+)", grid)[0]
    picture = gallery.pictures()["one"]
    before = list(gallery.views)
    for path in (f"/failed/{crop}", f"{picture}0", "/failed/x", f"/thumb/{picture.removeprefix('/failed/')}"):
        assert gallery.client.get(path).status_code == 404, path
    assert gallery.views == before


def test_an_erased_photo_has_no_picture_even_in_an_open_page(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = gallery.pictures()["one"]
    assert gallery.client.get(picture).status_code == 200
    monkeypatch.setattr(
        type(gallery.state), "forgotten", lambda _, source, ids: {("cams", "one")} if ids == ["one"] else set()
    )
    assert gallery.client.get(picture).status_code == 404


@pytest.mark.parametrize(
    ("place", "whole"),
    [
        ({}, False),
        ({"left": None}, True),
        ({"left": 5_000, "right": 6_000}, True),
        ({"left": -(10**9), "right": 10**9, "top": -(10**9), "bottom": 10**9}, True),
        ({"left": 600, "right": 400}, True),
        ({"image_width": 0}, True),
    ],
)
def test_a_box_anywhere_gives_a_picture(place: dict[str, Any], whole: bool) -> None:
    shown = Image.open(io.BytesIO(around_box(photo(), {**_PLACE, **place})))
    assert (shown.size == (240, 192)) is whole


def test_a_search_that_takes_long_stops_and_goes_on_where_it_stopped(gallery: Gallery) -> None:
    queries = Queries(gallery.settings.storage.spec)
    chosen = CropFilter(reason="http_404")
    first = queries.page(chosen, None, 10, within_s=0)
    assert (first.rows, first.after, first.searched) == ([], None, MORNING.date())
    page = gallery.client.get("/?reason=http_404").text
    assert "Look further back" not in page, "there is time enough for two days"
    rest = queries.page(CropFilter(reason="http_404", until=first.searched - timedelta(days=1)), None, 10, within_s=0)
    assert [row["image_id"] for row in rest.rows] == ["gone"]
    assert rest.searched is None


def test_a_crop_that_a_tag_turns_is_shown_upright() -> None:
    out = io.BytesIO()
    stored = Image.new("RGB", (80, 40), "navy")
    stored.paste("red", (0, 0, 40, 40))
    stored.save(out, "JPEG", exif=with_orientation(6))
    with Image.open(io.BytesIO(shrunk(out.getvalue()))) as shown:
        assert shown.size == (40, 80)
        red, _, blue = shown.convert("RGB").getpixel((20, 10))  # type: ignore[misc]
    assert red > 200 > 100 > blue
