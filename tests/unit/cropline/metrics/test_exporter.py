"""The exporter serves what the state holds, over HTTP, and survives a state database that is gone."""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from cropline.config.settings import Settings, load_settings
from cropline.core.errors import CroplineError, SettingsError
from cropline.metrics.server import serving
from cropline.state import State
from tests.contract.state.build import candidate, counts, outcomes, registration

DOCS = Path(__file__).parents[4] / "docs" / "monitoring.md"
HOUR = timedelta(hours=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(storage={"url": f"file://{tmp_path}/store"}, state={"url": f"sqlite:///{tmp_path}/state.db"})


@pytest.fixture
def errors() -> list[CroplineError]:
    return []


@pytest.fixture
def address(settings: Settings, errors: list[CroplineError]) -> Iterator[str]:
    with State.open(settings.state) as state:
        state.register(registration([candidate("a"), candidate("b"), candidate("c")]))
        batch = state.claim(limit=2, owner="run")
        assert batch is not None
        state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=0)
        state.register(
            registration([candidate("q", state="quarantined", reason='odd"reason\nhere')], manifest="manifests/2")
        )
        state.note_flow_end("poll", "poll-cams", "COMPLETE")
    with serving(settings, "127.0.0.1", 0, HOUR, errors.append) as port:
        yield f"http://127.0.0.1:{port}/metrics"


def scraped(address: str) -> dict[tuple[str, frozenset[str]], float]:
    """Return {(name, label values): number}."""
    answer = requests.get(address, timeout=10)
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_a_scrape_shows_the_state(address: str) -> None:
    figures = scraped(address)
    assert figures["cropline_up", frozenset()] == 1
    assert figures["cropline_work_items", frozenset({"cams", "done"})] == 2
    assert figures["cropline_work_items", frozenset({"cams", "pending"})] == 1
    assert figures["cropline_window_crops", frozenset({"cams", "written"})] == 6
    assert figures["cropline_window_seconds", frozenset()] == 3600
    assert figures["cropline_flow_last_failed", frozenset({"poll", "poll-cams"})] == 0
    assert figures["cropline_failed_work_items", frozenset({"quarantined", 'odd"reason\nhere'})] == 1


def test_the_docs_list_every_metric_with_its_labels_and_meaning(address: str) -> None:
    text = requests.get(address, timeout=10).text
    served = {family.name: family for family in text_string_to_metric_families(text)}
    rows = re.findall(r"^\| `(cropline_\w+)` \| ([\w, ]*?) ?\| (.+) \|$", DOCS.read_text(), re.MULTILINE)
    documented = {name.removesuffix("_info"): (labels, meaning) for name, labels, meaning in rows}
    needs_a_catalogue = {"cropline_catalogue_version", "cropline_catalogue_files", "cropline_catalogue_bytes"}
    assert set(documented) == {name.removesuffix("_info") for name in served} | needs_a_catalogue
    for name, family in served.items():
        labels, meaning = documented[name.removesuffix("_info")]
        assert family.documentation == meaning
        assert set(family.samples[0].labels) == set(filter(None, labels.split(", ")))


def test_a_state_that_is_gone_is_a_figure_and_a_line_and_comes_back(
    address: str, errors: list[CroplineError], tmp_path: Path
) -> None:
    def execute(statement: str) -> None:
        with closing(sqlite3.connect(tmp_path / "state.db")) as database:
            database.execute(statement)

    execute("ALTER TABLE tallies RENAME TO away")
    figures = scraped(address)
    assert {name for name, _ in figures} == {"cropline_up", "cropline_build_info"}
    assert figures["cropline_up", frozenset()] == 0
    assert [error.code for error in errors] == ["state"]
    execute("ALTER TABLE away RENAME TO tallies")
    assert scraped(address)["cropline_up", frozenset()] == 1


def test_an_address_in_use_is_one_line(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(SettingsError, match=f"--host 127.0.0.1 --port {port}: cannot be used"),
            serving(settings, "127.0.0.1", port, HOUR, lambda error: None),
        ):
            pass
