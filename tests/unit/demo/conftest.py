"""One server for the whole folder, with small photos. Each test starts without faults and with an empty log."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from demo.server import DemoServer

Page = dict[str, Any]


class Visitor:
    """A client without cropline's code: plain requests, no retries."""

    def __init__(self, server: DemoServer) -> None:
        self.server = server
        self.control = server.control

    def get(self, path_or_url: str, **options: Any) -> requests.Response:
        """GET with the token, unless ``headers`` are given."""
        url = path_or_url if path_or_url.startswith("http") else self.server.base_url + path_or_url
        headers = options.pop("headers", {"Authorization": f"Bearer {self.server.token}"})
        return requests.get(url, headers=headers, timeout=10, **options)

    def photo(self, row: Page, **options: Any) -> requests.Response:
        """GET the photo of a row, without the token."""
        return self.get(row["url"], headers={}, **options)

    def page(self, **params: Any) -> Page:
        """Return one page of the listing."""
        answer = self.get("/v1/images", params=params)
        answer.raise_for_status()
        # Not answer.json(): with simplejson installed it refuses the NaN of a fault.
        page: Page = json.loads(answer.text)
        return page

    def pages(self, **params: Any) -> list[Page]:
        """Return every page, following the cursors."""
        pages = [self.page(**params)]
        while pages[-1]["next_cursor"]:
            pages.append(self.page(**{**params, "cursor": pages[-1]["next_cursor"]}))
        return pages


@pytest.fixture(scope="session")
def photo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("photos")


@pytest.fixture(scope="session")
def running(photo_cache: Path) -> Iterator[DemoServer]:
    with DemoServer(photos=14, megapixels=0.1, cache_dir=photo_cache) as server:
        yield server


@pytest.fixture
def api(running: DemoServer) -> Visitor:
    running.control.clear_faults()
    running.control.clear_log()
    return Visitor(running)
