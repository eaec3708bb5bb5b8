"""A real browser for the Prefect UI: the system's Chromium, driven by Playwright.

Belongs here: starting it, opening pages, keeping screenshots. Does not: any assertion. Screenshots are build output, for
people to look at: build/screenshots/.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

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
    """Where the system's Chromium is, if there is one. Playwright's own is not used: it would have to be downloaded."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Ui:
    """One page of the browser on one server."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self._address = address
        page.set_default_timeout(_PATIENCE_MS)

    def open(self, path: str) -> None:
        self.page.goto(self._address + path)

    def text(self, text: str) -> Locator:
        """Where a text stands; the first place, if there are several."""
        return self.page.get_by_text(text).first

    def sees(self, *texts: str) -> None:
        """Wait for each of the texts. Raises Playwright's TimeoutError, which names the missing one."""
        for text in texts:
            self.text(text).wait_for()

    def picture(self, alt: str) -> tuple[int, int]:
        """(width, height) in pixels of a picture that was loaded; (0, 0) when it is broken."""
        shown = self.page.get_by_alt_text(alt).first
        shown.wait_for()
        width, height = shown.evaluate(
            "async image => { await image.decode(); return [image.naturalWidth, image.naturalHeight] }"
        )
        return int(width), int(height)

    def keep(self, name: str, height: int = 900) -> None:
        """A screenshot, as tall as the page needs."""
        self.page.set_viewport_size(ViewportSize(width=1440, height=height))
        self.page.wait_for_load_state("networkidle")
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", animations="disabled")


@contextmanager
def ui(program: str, address: str) -> Iterator[Ui]:
    """A browser on a Prefect UI while the block lasts. Nothing but that server is reached."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        try:
            page = browser.new_page(viewport=ViewportSize(width=1440, height=900), reduced_motion="reduce")
            page.route(lambda url: not url.startswith((address, "data:", "blob:")), lambda route: route.abort())
            yield Ui(page, address)
        finally:
            browser.close()
