"""Data Docs: what a run adds, what it must not read, and how concurrent runs affect each other."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from cropline.core.storage import list_keys, read
from cropline.core.store_spec import StoreSpec
from expectations import data_docs
from expectations.data_docs import DocsSite, publish
from expectations.gx import SuiteRun, run_suite
from expectations.manifest import Check, Rule

NOW = datetime(2026, 11, 22, 8, 40, tzinfo=UTC)
RULES = (
    Rule("age_known", "age", "age", Check("not_null"), "The age is known"),
    Rule("age_sane", "age", "age", Check("between", high=120), "Nobody is older than 120", "info"),
    Rule("word_known", "word", "word", Check("one_of", values=("a",)), "The word is known", "info"),
    Rule("name_short", "name", "name_length", Check("between", high=9), "<u>Names</u> are short"),
)


@pytest.fixture(scope="module")
def runs() -> list[SuiteRun]:
    columns = {"age": [3.0, None, None, 200.0], "name_length": [3, 5, 10, 4], "word": ["<u>", "a", "a", "a"]}
    frame = pd.DataFrame({"row": [0, 1, 2, 3]} | columns)
    return [run_suite("people", frame, RULES)]


def keep(site: DocsSite, runs: list[SuiteRun], *, at: datetime = NOW, name: str = "poll") -> str:
    return publish(site, runs, run_name=name, now=at, bad=3, rows=4)


def listed(site: DocsSite) -> list[str]:
    """Return the pages that the index links to, in its order."""
    index = read(site.spec, f"{site.prefix}index.html").decode()
    return re.findall(r'<td><a href="(runs/[^"]+)">', index)


def test_a_run_adds_its_page_and_keeps_the_earlier_ones(tmp_path: Path, runs: list[SuiteRun]) -> None:
    site = DocsSite.at(tmp_path / "docs with blanks")
    first = keep(site, runs)
    second = keep(site, runs, at=NOW + timedelta(minutes=1))
    assert first.startswith("file:///")
    assert [f"{site.spec.url}/{page}" for page in listed(site)] == [second, first]
    assert all((site.spec.local_path / page).stat().st_size > 3000 for page in listed(site))


def test_pages_in_a_store_lie_below_docs(runs: list[SuiteRun]) -> None:
    spec = StoreSpec("memory:///docs-test")
    address = keep(DocsSite.at(spec), runs)
    assert {key.split("/")[0] for key in list_keys(spec, "")} == {"docs"}
    assert address.startswith("memory:///docs-test/docs/runs/2026-11-22/084000Z-poll-")


def test_the_page_says_what_broke_and_in_which_rows(tmp_path: Path, runs: list[SuiteRun]) -> None:
    site = DocsSite.at(tmp_path)
    keep(site, runs)
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", (tmp_path / listed(site)[0]).read_text(), flags=re.S)
    flat = " ".join(text.split())
    assert "age_known warning The age is known 2" in flat
    assert "age_sane info Nobody is older than 120 1" in flat
    assert "4 images 1 good 3 quarantined (75 %)" in flat
    assert "Unexpected Value Count row null 2 1, 2" in flat
    # GX would add a query that lists every bad row of a manifest.
    assert "df.filter" not in flat


def test_text_cannot_become_markup(tmp_path: Path, runs: list[SuiteRun]) -> None:
    site = DocsSite.at(tmp_path)
    keep(site, runs, name="<script>alert(1)</script>")
    for page in (*listed(site), "index.html"):
        text = (tmp_path / page).read_text()
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "<u>" not in text


def test_a_run_reads_no_record_of_earlier_days(tmp_path: Path, runs: list[SuiteRun]) -> None:
    site = DocsSite.at(tmp_path)
    for days in (5, 4, 3):
        keep(site, runs, at=NOW - timedelta(days=days))
    for record in tmp_path.glob("runs/*/*.json"):
        record.write_text("not to be read")
    keep(site, runs)
    assert [page[5:15] for page in listed(site)] == ["2026-11-22", "2026-11-19", "2026-11-18", "2026-11-17"]


def test_a_record_that_another_run_overwrote_comes_back(tmp_path: Path, runs: list[SuiteRun]) -> None:
    site = DocsSite.at(tmp_path)
    keep(site, runs)
    before = (tmp_path / "history.json").read_bytes()
    keep(site, runs, at=NOW + timedelta(seconds=1))
    (tmp_path / "history.json").write_bytes(before)  # as if both runs had read it before either wrote
    keep(site, runs, at=NOW + timedelta(days=1))
    assert len(listed(site)) == 3


@pytest.mark.parametrize("damage", ["", "{", "[1]", '[{"page": "x"}]', "null"])
def test_a_damaged_history_is_built_anew(tmp_path: Path, runs: list[SuiteRun], damage: str) -> None:
    site = DocsSite.at(tmp_path)
    keep(site, runs, at=NOW - timedelta(days=9))
    (tmp_path / "history.json").write_text(damage)
    keep(site, runs)
    assert len(listed(site)) == 2
    assert len(json.loads((tmp_path / "history.json").read_text())) == 2


def test_the_same_run_again_is_one_page(tmp_path: Path, runs: list[SuiteRun]) -> None:
    site = DocsSite.at(tmp_path)
    assert keep(site, runs) == keep(site, runs)
    assert len(listed(site)) == 1


def test_the_index_shows_the_newest_only(tmp_path: Path, runs: list[SuiteRun]) -> None:
    site = DocsSite.at(tmp_path)
    keep(site, runs, at=NOW - timedelta(days=3))
    page = {"run_name": "poll", "at": "then", "rows": 1, "bad": 0, "critical": [], "broken": []}
    many = [page | {"page": f"runs/2026-11-20/{n:06}Z-poll.html"} for n in range(data_docs.NEWEST)]
    (tmp_path / "history.json").write_text(json.dumps(many))
    newest = keep(site, runs)
    assert len(listed(site)) == data_docs.NEWEST
    assert newest.endswith(listed(site)[0])
    assert listed(site)[-1] == "runs/2026-11-20/000001Z-poll.html"
    assert len(list(tmp_path.glob("runs/*/*.html"))) == 2, "pages are never removed"


def test_a_busy_day_does_not_read_again_what_has_left_the_index(tmp_path: Path, runs: list[SuiteRun]) -> None:
    site = DocsSite.at(tmp_path)
    keep(site, runs, at=NOW - timedelta(minutes=30))
    for record in tmp_path.glob("runs/*/*.json"):
        record.write_text("not to be read")
    page = {"run_name": "poll", "at": "then", "rows": 1, "bad": 0, "critical": [], "broken": []}
    many = [page | {"page": f"runs/2026-11-22/{82_000 + n:06}Z-poll.html"} for n in range(data_docs.NEWEST)]
    (tmp_path / "history.json").write_text(json.dumps(many))
    newest = keep(site, runs)
    assert newest.endswith(listed(site)[0])
    assert len(listed(site)) == data_docs.NEWEST
