"""The gallery over real HTTP: what pages show, what they refuse, and that text from outside stays text."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from cropline.cli.gallery import run_gallery, serving
from cropline.config.settings import Settings
from cropline.core import storage
from cropline.core.errors import SettingsError
from cropline.gallery.thumbnails import NoPicture, Thumbnails, forget_erased
from cropline.state import State
from tests.unit.cropline.gallery.shelves import MORNING, box, failed, picture, put, settings_in

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m../../etc"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = settings_in(tmp_path_factory.mktemp("gallery"))
    day = timedelta(days=1)
    put(settings, [box("old", number, at=MORNING - day, label="water") for number in range(3)])
    put(
        settings,
        [
            *(box("one", number, sharpness=50.0 - number) for number in range(3)),
            failed("one", 3, "box_outside"),
        ],
    )
    put(settings, [box("two", 0, at=MORNING + timedelta(hours=1))], {"two": picture("red", 6)})
    put(settings, [failed("three", 0, at=MORNING + timedelta(hours=2))])
    put(settings, [box(HOSTILE, 0, box_id=HOSTILE, label=HOSTILE, store_name=HOSTILE, camera_id=HOSTILE)])
    return settings


@pytest.fixture(scope="module")
def address(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(settings, "127.0.0.1", 0, None, tmp_path_factory.mktemp("cache"), 10) as address:
        yield address


def get(address: str, path: str = "/", **query: Any) -> requests.Response:
    return requests.get(address + path, params=query, timeout=20)


def links(page: str, kind: str) -> list[str]:
    return [link.replace("&amp;", "&") for link in re.findall(rf'(?:href|src)="(/{kind}[^"]*)"', page)]


def cards(page: str) -> int:
    return page.count('<li class="card')


def test_the_grid_shows_the_newest_first_and_filters(address: str) -> None:
    page = get(address).text
    assert cards(page) == 10
    titles = re.findall(r"image=(\w+)[^\"]*&amp;profile=default&amp;box=\d", page)
    assert titles == ["three", "two", "one", "one", "one", "one", "old", "old", "old"] or "3Cscript" in page
    assert cards(get(address, label="water").text) == 3
    assert cards(get(address, status="failed").text) == 2
    assert cards(get(address, reason="box_outside").text) == 1
    assert cards(get(address, since="2026-03-02").text) == 7
    assert cards(get(address, until="2026-03-01").text) == 3
    assert cards(get(address, sharpness_max=48.5).text) == 1
    assert cards(get(address, label="' OR true --").text) == 0


def test_a_sorted_page_begins_with_the_worst_and_says_which_day_it_looks_at(address: str) -> None:
    page = get(address, sort="blurred", status="written").text
    assert "This order looks at one day, 2026-03-02" in page
    boxes = re.findall(r"image=one[^\"]*&amp;box=(\d)", page)
    assert boxes == ["2", "1", "0"]


def test_pages_follow_each_other_without_a_gap_or_a_repeat(settings: Settings) -> None:
    from cropline.gallery.filters import SORTS, CropFilter, parse_place
    from cropline.gallery.queries import Queries

    queries = Queries(settings.storage.spec)
    for sort in SORTS:
        chosen = CropFilter(sort=sort, until=(MORNING + timedelta(days=1)).date())
        whole = [row["key"] or row["image_id"] for row in queries.page(chosen, None, 100).rows]
        assert len(whole) == 10
        parts, after = [], None
        while True:
            page = queries.page(chosen, after, 3)
            parts += [row["key"] or row["image_id"] for row in page.rows]
            if page.after is None:
                break
            after = parse_place(page.after)
        assert parts == whole, sort


def test_text_from_outside_is_text(address: str) -> None:
    grid = get(address).text
    (link,) = [link for link in links(grid, "crop") if "script" in link]
    photo = get(address, links(get(address, link).text, "photo\\?")[0])
    for page in (
        grid,
        get(address, link).text,
        photo.text,
        get(address, links(get(address, link).text, "slot")[0]).text,
    ):
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "\x1b" not in page
    policy = photo.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_a_crop_page_has_the_file_the_trace_and_the_commands(address: str, settings: Settings) -> None:
    link = next(link for link in links(get(address, label="water").text, "crop"))
    page = get(address, link).text
    (file, *_) = links(page, "file/")
    answer = get(address, file)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.content == picture("grey")
    assert "manifests/1.parquet, row 0" in page
    assert "cropline trace crops/" in page
    assert len(re.findall(r'<rect class="box written( current)?"', page)) == 3
    thumb = get(address, links(page, "thumb/")[0])
    assert Image.open(io.BytesIO(thumb.content)).size == (60, 80)


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/", {"since": "yesterday"}, 400),
        ("/", {"after": "AAAA"}, 400),
        ("/", {"after": "W251bGwsIDEsIDIsIDMsIDRd"}, 400),
        ("/", {"sort": "key; DROP TABLE crops"}, 400),
        ("/", {"sharpness_min": "1e400"}, 400),
        ("/", {"label": "x" * 301}, 400),
        ("/crop", {"source": "cams", "image": "one", "profile": "default", "box": "x"}, 400),
        ("/crop", {"source": "cams", "image": "one", "profile": "default", "box": "77"}, 404),
        ("/photo", {"source": "cams", "image": "never"}, 404),
        ("/photo.jpg", {"source": "cams", "image": "../../etc/passwd"}, 404),
        ("/slot", {"source": "cams", "image": "one", "profile": "default", "box": "0", "hours": "9999999"}, 400),
        ("/file/..%2f..%2fetc%2fpasswd", {}, 404),
        ("/thumb/e30.0123456789abcdef0123456789abcdef", {}, 404),
        ("/static/..%2f..%2fapp.py", {}, 404),
        ("/static/../app.py", {}, 404),
        ("/docs", {}, 404),
        ("/openapi.json", {}, 404),
    ],
)
def test_what_makes_no_sense_is_one_clear_page(address: str, path: str, query: dict[str, str], status: int) -> None:
    answer = get(address, path, **query)
    assert answer.status_code == status
    assert "Traceback" not in answer.text


def test_it_only_reads(address: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert requests.request(method, address + "/", timeout=20).status_code == 405


def test_a_name_that_another_site_points_here_is_refused(address: str) -> None:
    answer = requests.get(address, headers={"Host": "evil.example"}, timeout=20)
    assert (answer.status_code, "loopback only" in answer.text) == (403, True)


def test_a_slot_is_a_strip_a_table_and_a_picture(address: str) -> None:
    query = {"source": "cams", "image": "one", "profile": "default", "box": "0"}
    page = get(address, "/slot", **query).text
    assert "2 crops in 3 photos" in page
    assert "the whole photo failed: http_404" in page or "failed: http_404" in page
    assert '<li class="changed' in page
    table = list(csv.DictReader(io.StringIO(get(address, "/slot.csv", **query).text)))
    assert [row["status"] for row in table] == ["written", "written", "failed"]
    assert float(table[1]["change"]) > 0.15
    strip = Image.open(io.BytesIO(get(address, "/slot.png", **query).content))
    assert (strip.format, strip.width > 400) == ("PNG", True)


def test_the_csv_of_a_slot_holds_no_formula(settings: Settings, address: str) -> None:
    put(settings, [box("formula", 0, at=MORNING - timedelta(days=40), label="=cmd|' /C calc'!A0")])
    text = get(address, "/slot.csv", source="cams", image="formula", profile="default", box="0").text
    assert "'=cmd" in text


def test_runs_and_quarantine_are_there_without_any(address: str) -> None:
    assert "Nothing failed" in get(address, "/runs").text
    assert "Nothing is in quarantine" in get(address, "/quarantine").text


def test_an_erased_crop_is_gone_at_once_also_from_the_cache(settings: Settings, address: str) -> None:
    gone = box("erased", 0, at=MORNING - timedelta(days=50))
    put(settings, [gone])
    page = get(address, "/photo", source="cams", image="erased").text
    thumb = links(page, "thumb/")[0]
    assert get(address, thumb).status_code == 200
    storage.delete(settings.storage.spec, [gone["key"]])
    assert get(address, thumb).status_code == 404
    assert get(address, links(get(address, links(page, "crop")[0]).text, "file/")[0]).status_code == 404


def test_cached_files_of_erased_photos_are_removed_and_the_cache_has_a_limit(
    settings: Settings, tmp_path: Path
) -> None:
    rows = [box("cache", number, at=MORNING - timedelta(days=60)) for number in range(6)]
    put(settings, rows)
    size = len(picture("grey"))
    thumbnails = Thumbnails(settings.storage.spec, tmp_path, 4 * size)
    full = [row | {"shard": None, "offset": None, "bytes": size, "sha256": str(row["box_index"])} for row in rows]
    for row in full:
        thumbnails.get(row)
    kept = list(tmp_path.rglob("*.*")) + [file for file in tmp_path.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in set(kept)) <= 4 * size
    forget_erased(thumbnails, lambda source, ids: set(ids) if source == "cams" else set())
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    thumbnails.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"GIF89a....", b"<svg onload=alert(1)>", picture("red")[:200]])
def test_bytes_that_are_no_picture_are_refused(settings: Settings, tmp_path: Path, data: bytes) -> None:
    storage.write(settings.storage.spec, "crops/odd.jpg", data)
    row = dict.fromkeys(("shard", "offset")) | {
        "key": "crops/odd.jpg", "bytes": len(data), "sha256": "0", "source": "cams", "image_id": "odd",
    }  # fmt: skip
    thumbnails = Thumbnails(settings.storage.spec, tmp_path, 1_000_000)
    with pytest.raises(NoPicture, match="cannot be shown"):
        thumbnails.get(row)


def test_another_address_needs_a_token_and_the_token_opens_it(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--token"):
        run_gallery("0.0.0.0", 0, None, tmp_path, 1)
    with serving(settings, "127.0.0.1", 0, "s3cret", tmp_path, 1) as address:
        assert get(address).status_code == 401
        assert get(address, token="wrong").status_code == 403
        browser = requests.Session()
        opened = browser.get(address, params={"token": "s3cret", "label": "water"}, timeout=20)
        assert (cards(opened.text), "token" in opened.url) == (3, False)
        (cookie,) = browser.cookies
        assert cookie.has_nonstandard_attr("HttpOnly")
        elsewhere = {"Host": "shelves.example", "Cookie": f"{cookie.name}={cookie.value}"}
        assert requests.get(address, timeout=20, headers=elsewhere).status_code == 200
        leads = requests.get(address + "//evil.example/?token=s3cret", timeout=20, allow_redirects=False)
        assert leads.headers["Location"] == "/evil.example/"


def test_state_is_never_written(settings: Settings, address: str) -> None:
    with State.open(settings.state) as state:
        before = state.report()
        get(address, "/runs")
        assert state.report().images == before.images
