"""A generator function as the source, and a function as the mapping: what they give arrives, and failures are named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cropline.config.settings import ApiSettings, load_settings
from cropline.core.errors import ApiRefused, ApiUnavailable, CroplineError, SettingsError
from cropline.intake import manifest, user_code
from cropline.intake.image_api import open_source
from expectations.hints import hints
from tests.unit.expectations.rows import landed

SECRET = "hush-hush"
Feed = Callable[[str], str]
"""From source code to the name of its function."""


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    """A module of a user's, with one function ``go``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    user_code.load_function.cache_clear()

    def write(code: str) -> str:
        (tmp_path / "their_feed.py").write_text(code)
        return "their_feed:go"

    yield write
    sys.modules.pop("their_feed", None)
    user_code.load_function.cache_clear()


def read(reader: str, since: str = "2026-11-22T09:00:00+01:00", **changes: Any) -> list[list[Any]]:
    source = open_source(ApiSettings(kind="python", reader=reader, **changes))
    with closing(source.pages(since)) as pages:
        return [page.items for page in pages]


def test_a_reader_gets_the_time_in_utc_and_the_settings_and_its_pages_arrive(feed: Feed) -> None:
    name = feed("def go(since, settings):\n    yield [{'since': since}]\n    yield [{'n': settings.page_size}, {}]\n")
    assert read(name, page_size=7) == [[{"since": "2026-11-22T08:00:00+00:00"}], [{"n": 7}, {}]]


def test_values_of_databases_become_those_of_json(feed: Feed) -> None:
    feed("from tests.unit.cropline.intake.sources.test_python_reader import ROW\ndef go(since, s):\n    yield [ROW]\n")
    (((row),),) = read("their_feed:go")
    assert json.loads(json.dumps(row)) == row
    assert row | {"odd": ""} == {
        "at": "2026-11-22T08:00:00+00:00",
        "price": "1.5",
        "box": [[0.5, 1.0]],
        "n": 3,
        "odd": "",
    }
    landed_row = manifest.manifest_row(0, row, ApiSettings(kind="python", reader="a:b"))
    assert landed_row["unreadable"] == ["item"], "a value without a form in JSON is not lost in silence"


ROW = {
    "at": datetime(2026, 11, 22, 8, tzinfo=UTC),
    "price": Decimal("1.5"),
    "box": np.array([[0.5, 1.0]]),
    "n": np.int64(3),
    "odd": object(),
}


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (
            f"def go(since, s):\n    yield [{{}}]\n    raise KeyError('{SECRET}')\n",
            ApiRefused,
            "their_feed:go raised KeyError (their_feed.py, line 3) at page 2",
        ),
        (
            f"def go(since, s):\n    raise ConnectionError('{SECRET}')\n    yield\n",
            ApiUnavailable,
            "raised ConnectionError (their_feed.py, line 2) at page 1",
        ),
        (
            "import sys\ndef go(since, s):\n    sys.exit(3)\n    yield\n",
            ApiRefused,
            "raised SystemExit (their_feed.py, line 3)",
        ),
        ("def go(since):\n    yield []\n", ApiRefused, "their_feed:go raised TypeError at page 1"),
        ("def go(since, s):\n    yield {'id': 1}\n", ApiRefused, "page 1 is a dict, not a list of dicts; yield [item]"),
        ("def go(since, s):\n    return 7\n", ApiRefused, "returns a int, not pages of dicts"),
        ("go = 7\n", SettingsError, "CROPLINE_API__READER: their_feed has no function go"),
        ("import no_such_thing\n", SettingsError, "no module no_such_thing, which their_feed:go imports, is installed"),
        (
            f"raise ValueError('{SECRET}')\n",
            SettingsError,
            "their_feed:go cannot be imported: ValueError (their_feed.py, line 1)",
        ),
        ("def go(:\n", SettingsError, "cannot be imported: SyntaxError (their_feed.py, line 1)"),
    ],
)
def test_a_reader_that_fails_is_named_with_its_line_and_without_its_text(
    feed: Feed, code: str, kind: type[CroplineError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        read(feed(code))
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_reader_may_say_itself_that_it_is_unavailable(feed: Feed) -> None:
    name = feed(
        "from cropline.core.errors import ApiUnavailable\ndef go(s, a):\n    raise ApiUnavailable('closed')\n    yield\n"
    )
    with pytest.raises(ApiUnavailable, match="^closed$"):
        read(name)


def test_a_reader_is_closed_when_its_reading_stops_early(feed: Feed, tmp_path: Path) -> None:
    mark = tmp_path / "closed"
    name = feed(
        f"def go(s, a):\n    try:\n        while True: yield [{{}}]\n    finally:\n        open({str(mark)!r}, 'w').close()\n"
    )
    with closing(open_source(ApiSettings(kind="python", reader=name)).pages("2026-01-01T00:00:00Z")) as pages:
        next(pages)
        assert not mark.exists()
    assert mark.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_at_all:go", "CROPLINE_API__READER: no module nowhere_at_all is installed; install it, or"),
        ("", "CROPLINE_API__READER: kind python needs it"),
    ],
)
def test_a_reader_that_is_not_there_is_a_mistake_of_the_settings(name: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_source(ApiSettings(kind="python", reader=name))
    assert said in str(caught.value)


def test_a_name_that_is_no_entry_point_is_refused_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_API__READER", "their feed")
    with pytest.raises(
        SettingsError, match="CROPLINE_API__READER: 'their feed' is neither module:name nor an entry point"
    ):
        load_settings()


MAP = """
from datetime import datetime
def go(item):
    if item["n"] == 13:
        raise KeyError("hush-hush")
    if item["n"] == 14:
        return None
    boxes = [{"box_id": "b", "xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4, "colour": "red"}]
    return {"image_id": f"p{item['n']}", "updated_at": datetime(2026, 11, 22, 8), "boxes": boxes, "weather": "rain"}
"""


def test_a_map_gives_fields_and_the_paths_give_those_that_it_leaves_out(feed: Feed) -> None:
    api = ApiSettings(map=feed(MAP), time_zone="Europe/Berlin", box_format="xywh", coordinates="pixels")
    item = {"n": 1, "etag": "e", "url": "https://x.example/1.jpg", "id": "not this"}
    row = manifest.manifest_row(0, item, api)
    assert (row["image_id"], row["version"], row["url"], row["unreadable"]) == ("p1", "e", item["url"], [])
    assert row["updated_at"] == datetime(2026, 11, 22, 7, tzinfo=UTC), "in the zone of the settings"
    assert [row["boxes"][0][name] for name in ("box_id", "xmin", "xmax", "ymax")] == ["b", 1.0, 4.0, 6.0]
    assert json.loads(row["attributes"]) == {"weather": "rain", "boxes": [{"colour": "red"}]}
    assert json.loads(row["raw"]) == item, "as it came, so that it can be mapped again"
    assert manifest.image_id(item, api) == "p1"
    assert manifest.updated_at(item, api) == row["updated_at"]
    assert manifest.identity(item, api) == manifest.identity(item | {"url": "other"}, api)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (13, "their_feed:go raised KeyError (their_feed.py, line 5)"),
        (14, "their_feed:go returned a NoneType, not a dict"),
    ],
)
def test_an_item_whose_map_fails_is_quarantined_with_the_reason_and_the_others_go_on(
    feed: Feed, number: int, said: str
) -> None:
    api = ApiSettings(map=feed(MAP))
    rows = landed([{"n": number}, {"n": 1}], api)
    assert rows["unreadable"].to_pylist() == [["map"], []]
    (told,) = hints(rows, {0: ["fields_readable"]}).values()
    assert said in told
    assert SECRET not in told
    assert manifest.identity({"n": 13}, api) != manifest.identity({"n": 14}, api)
