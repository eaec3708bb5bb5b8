"""A real browser for the Prefect UI: the system's Chromium, driven by Playwright.

Screenshots are build output for people to look at: build/screenshots/.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, ViewportSize, sync_playwright

from tests.e2e.stack import ROOT

SHOTS = ROOT / "build" / "screenshots"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run",
)  # fmt: skip
_PATIENCE_MS = 60_000


def chromium() -> str | None:
    """Return the path of the system's Chromium, if any. Playwright's own would have to be downloaded."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Ui:
    """One page of the browser on one server."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self._address = address
        page.set_default_timeout(_PATIENCE_MS)

    def open(self, path: str) -> None:
        self.page.goto(self._address + path)

    def open_file(self, path: Path) -> None:
        """Open a file of this disk, as a double click does."""
        self.page.goto(path.as_uri())

    def field(self, label: str) -> Locator:
        """Return a field of the run's parameter form; of nested fields, the innermost."""
        named = self.page.locator(".schema-form-property__label", has_text=re.compile(f"^{label}"))
        return self.page.locator(".schema-form-property").filter(has=named).last

    def fill_date(self, label: str, day: str) -> None:
        """Select the start of a day in the form's calendar. ``day``: 2026-01-01."""
        self.field(label).get_by_role("button", name="date-time").click()
        self.field(label).get_by_text("Select date and time").click()
        self.page.locator("input[type=date]").fill(day)
        self.page.locator("input[type=time]").fill("00:00")
        self.page.get_by_role("button", name="Apply").click()

    def fill_list(self, label: str, value: str) -> None:
        """Enter one item of a list of texts."""
        self.field(label).get_by_role("button", name="Add item").click()
        self.field(label).locator("textarea").fill(value)

    def fill_number(self, label: str, value: int) -> None:
        """Enter an optional number."""
        self.field(label).get_by_role("button", name="int", exact=True).click()
        self.field(label).locator("input").fill(str(value))

    def choose(self, label: str, value: str) -> None:
        """Choose an option by the keyboard: without a hovering mouse, a click opens the list and closes it."""
        self.field(label).locator("button.p-select-button__control").press("ArrowDown")
        self.page.locator(".p-select-option").get_by_text(value, exact=True).click()

    def submit(self) -> None:
        """Submit the form; the UI then shows the deployment's runs."""
        self.page.get_by_role("button", name="Submit").click()
        self.page.wait_for_url("**tab=Runs*")

    def text(self, text: str) -> Locator:
        """Return the first element with this text."""
        return self.page.get_by_text(text).first

    def sees(self, *texts: str) -> None:
        """Wait for each of the texts. Raises Playwright's TimeoutError, which names the missing one."""
        for text in texts:
            self.text(text).wait_for()

    def picture(self, alt: str) -> tuple[int, int]:
        """Return (width, height) in pixels of a loaded picture; (0, 0) when it is broken."""
        shown = self.page.get_by_alt_text(alt).first
        shown.wait_for()
        width, height = shown.evaluate(
            "async image => { await image.decode(); return [image.naturalWidth, image.naturalHeight] }"
        )
        return int(width), int(height)

    def keep(self, name: str, height: int = 900) -> None:
        """Save a screenshot, as tall as the page needs."""
        self.page.set_viewport_size(ViewportSize(width=1440, height=height))
        self.page.wait_for_load_state("networkidle")
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", animations="disabled")


@contextmanager
def ui(program: str, address: str) -> Iterator[Ui]:
    """Open a browser on a Prefect UI for the duration of the block. It reaches only that server and this disk."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        try:
            page = browser.new_page(viewport=ViewportSize(width=1440, height=900), reduced_motion="reduce")
            page.route(
                lambda url: not url.startswith((address, "data:", "blob:", "file:")), lambda route: route.abort()
            )
            yield Ui(page, address)
        finally:
            browser.close()
