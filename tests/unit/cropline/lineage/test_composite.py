"""Several transports at once: a file and a real HTTP collector. A failure of one does not affect the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from cropline.config.lineage import LineageSettings
from cropline.core.store_spec import StoreSpec
from cropline.lineage import Event, Publisher, PublishResult
from tests.unit.cropline.lineage.test_transports import EVENTS, collecting, says


def publisher(path: Path, url: str, timeout_s: float = 2) -> Publisher:
    settings = LineageSettings(
        transport="composite", transports=("http", "file"), url=url, path=str(path), timeout_s=timeout_s
    )
    return Publisher(settings, StoreSpec("memory:///"))


def lines(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def again(result: PublishResult) -> list[tuple[str, ...]]:
    return [delivery.arrived for delivery in result.deliveries]


def test_each_transport_gets_every_event(tmp_path: Path) -> None:
    with collecting(says(200)) as collector:
        result = publisher(tmp_path / "e", collector.url).publish(EVENTS)
    assert result.complete
    assert lines(tmp_path / "e") == [body for _, _, body in collector.got] == EVENTS


def test_a_transport_gets_no_event_twice_when_the_other_recovers(tmp_path: Path) -> None:
    with collecting(says(500)) as collector:
        first = publisher(tmp_path / "e", collector.url).publish(EVENTS)
    assert (first.published, first.reason) == (0, "http: the collector answered 500")
    assert again(first) == [("file",)] * 5
    assert [delivery.tried for delivery in first.deliveries] == [True, False, False, False, False]
    with collecting(says(200)) as collector:
        second = publisher(tmp_path / "e", collector.url).publish(EVENTS, again(first))
    assert second.complete
    assert [body for _, _, body in collector.got] == EVENTS
    assert lines(tmp_path / "e") == EVENTS, "the file has each once"


def test_a_file_that_cannot_be_written_keeps_nothing_from_the_collector(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with collecting(says(200)) as collector:
        result = publisher(tmp_path / "folder", collector.url).publish(EVENTS)
    assert [body for _, _, body in collector.got] == EVENTS
    assert result.reason == f"file: {tmp_path / 'folder'}: Is a directory"
    assert again(result) == [("http",)] * 5


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"transport": "composite"}, "needs transports"),
        ({"transport": "composite", "transports": ["file"]}, "needs transports"),
        ({"transport": "composite", "transports": ["file", "file"]}, "each once"),
        ({"transport": "composite", "transports": ["file", "http"]}, "needs url"),
        ({"transport": "composite", "transports": ["file", "kafka"]}, "bootstrap.servers"),
        ({"transport": "file", "transports": ["file", "http"]}, "transports needs transport composite"),
    ],
)
def test_invalid_transport_settings_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LineageSettings.model_validate(values)
