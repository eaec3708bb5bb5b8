"""The photo server of the tests of ``cropline.crop``, in all its forms."""

from collections.abc import Iterator

import pytest

from tests.photos import PhotoServer, drawn, encoded, photo_server


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    """Serve photos 0.jpg to 3.jpg of 200 x 100 pixels."""
    with photo_server() as served:
        for number in range(4):
            served.photos[f"{number}.jpg"] = encoded(drawn(200, 100, seed=number))
        yield served


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let photos come from this machine."""
    monkeypatch.setenv("CROPLINE_FETCH__ALLOW_LOOPBACK", "true")
