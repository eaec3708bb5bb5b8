"""A lossless profile on a machine that cannot copy the bits of a photo."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pandas as pd
import pytest

import cropline
from cropline.cli import check_places
from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings, load_settings
from cropline.core.errors import EngineError
from fugue_jobs.imaging import regions
from tests.integration.conftest import Workspace

REFUSED = (
    "a lossless jpeg needs cropline-regions (native/README.md) on every machine that cuts, and here it is not "
    "installed: pip install --upgrade 'cropline[regions]'"
)


@pytest.fixture
def without_extension(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "cropline_regions", None)  # as if it were not installed
    regions._extension.cache_clear()
    yield
    regions._extension.cache_clear()


def test_a_poll_refuses_it_before_anything_is_registered(workspace: Workspace, without_extension: None) -> None:
    workspace.set(PROFILES=json.dumps({"default": {}, "copies": {"lossless": True}}))
    with pytest.raises(EngineError) as refused:
        workspace.poll()
    assert str(refused.value) == f"profile copies: {REFUSED}"
    assert workspace.states() == {}


def test_the_check_says_so(without_extension: None) -> None:
    profiles = {"default": Profile(), "copies": Profile(lossless=True)}
    found = check_places.engine(load_settings(profiles=profiles))
    assert (found.status, found.what, found.text) == ("wrong", "engine", f"profile copies: {REFUSED}")
    elsewhere = load_settings(profiles=profiles, engine=EngineSettings(kind="spark", master="spark://h:7077"))
    assert check_places.engine(elsewhere).text != found.text


def test_a_frame_is_refused_before_anything_is_fetched(without_extension: None) -> None:
    frame = pd.DataFrame({"ImgUrl": ["http://127.0.0.1:9/a.jpg"], "xmin": 0.1, "ymin": 0.1, "xmax": 0.9, "ymax": 0.9})
    with pytest.raises(EngineError) as refused:
        cropline.crop(frame, profile={"lossless": True})
    assert str(refused.value) == REFUSED
