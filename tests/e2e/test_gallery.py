"""The gallery in a real browser: filters, pages by keyboard, a slot over time, a phone."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import ViewportSize

from cropline.cli.gallery import serving
from tests.e2e.browser import Ui, chromium, ui
from tests.unit.cropline.gallery.shelves import MORNING, box, failed, picture, put, settings_in

COLOURS = ("darkred", "darkgreen", "navy", "orange")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    program = chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    settings = settings_in(tmp_path_factory.mktemp("gallery"))
    for hour in range(20):
        name, at = f"photo-{hour:02d}", MORNING + timedelta(hours=hour)
        boxes = [box(name, number, at=at, label=("cola", "water")[number % 2]) for number in range(4)]
        if hour == 7:
            boxes = [failed(name, number, at=at) for number in range(4)]
        drawn = picture(COLOURS[hour // 5], 4 if hour >= 12 else 9)
        put(settings, boxes, {name: drawn})
    with (
        serving(settings, "127.0.0.1", 0, None, Path(tmp_path_factory.mktemp("cache")), 50) as address,
        ui(program, address) as browser,
    ):
        yield browser


def cards(browser: Ui) -> int:
    return browser.page.locator("li.card").count()


def test_a_filter_and_its_pages_work_by_keyboard(gallery: Ui) -> None:
    gallery.open("/")
    assert cards(gallery) == 60
    gallery.page.get_by_label("Label").fill("water")
    gallery.page.get_by_label("Label").press("Enter")
    gallery.page.wait_for_url("**label=water*")
    assert "since=" not in gallery.page.url, "empty fields stay out of the address"
    assert cards(gallery) == 38
    gallery.open("/")
    gallery.page.keyboard.press("ArrowRight")
    gallery.page.wait_for_url("**after=*")
    assert cards(gallery) == 20
    gallery.sees("First page")


def test_from_the_grid_to_a_slot_over_time(gallery: Ui) -> None:
    gallery.open("/?status=written&label=cola")
    gallery.page.locator("li.card a").first.click()
    gallery.sees("cropline trace", "photo-19 of cams")
    assert gallery.picture("Crop of box b0, cola") == (60, 80)
    assert gallery.page.locator("svg rect.box").count() == 4
    gallery.page.get_by_text("This slot over time").click()
    gallery.page.get_by_text("7 days").click()
    gallery.sees("19 crops in 20 photos", "failed: http_404")
    assert gallery.page.locator("ol.strip li").count() == 20
    changed = gallery.page.locator("ol.strip li.changed time").all_inner_texts()
    assert "03-02 18:00:00" in changed
    gallery.keep("gallery-slot", 700)


def test_a_phone_shows_no_horizontal_bar(gallery: Ui) -> None:
    gallery.page.set_viewport_size(ViewportSize(width=375, height=700))
    try:
        for path in ("/", "/runs", "/quarantine"):
            gallery.open(path)
            wide = gallery.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 375, path
    finally:
        gallery.page.set_viewport_size(ViewportSize(width=1440, height=900))


def test_every_picture_has_a_text_and_no_script_fails(gallery: Ui) -> None:
    errors: list[str] = []
    gallery.page.on("pageerror", lambda error: errors.append(str(error)))
    gallery.open("/")
    missing = gallery.page.locator("img:not([alt])").count() + gallery.page.locator("img[alt='']").count()
    assert (missing, errors) == (0, [])
