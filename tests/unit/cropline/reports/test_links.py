"""Links to a run's outputs: absolute for the Prefect UI, relative for the HTML report."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropline.config.settings import load_settings
from cropline.core.errors import SettingsError
from cropline.core.store_spec import StoreSpec
from cropline.pipeline.funnel import Funnel
from cropline.reports.links import relative_links, web_links
from cropline.reports.summary import html_page, markdown, summarise

S3 = StoreSpec("s3://bucket/prefix")
PLACES = [("crops", "s3://bucket/prefix/crops/"), ("report", "s3://bucket/prefix/reports/a day/r.html")]


def test_places_in_the_output_are_linked_where_browsers_find_it() -> None:
    assert web_links(PLACES, S3, "https://files.example/cropline/") == {
        "crops": "https://files.example/cropline/crops/",
        "report": "https://files.example/cropline/reports/a%20day/r.html",
    }
    assert web_links(PLACES, S3, "") == {}, "no browser opens s3://"


def test_places_elsewhere_are_linked_only_when_they_are_web_pages() -> None:
    elsewhere = [
        ("lineage", "https://marquez.example"),
        ("other", "/var/log/events.ndjson"),
        ("x", "s3://bucket/prefixed/x"),
    ]
    assert web_links(elsewhere, S3, "https://files.example") == {"lineage": "https://marquez.example"}
    assert relative_links(elsewhere, S3) == {}


def test_links_of_the_html_report_lead_from_its_folder_to_what_is_there(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    page = tmp_path / "docs" / "a page.html"
    page.parent.mkdir()
    page.write_text("here")
    found = relative_links([("Data Docs", spec.uri("docs/a page.html")), ("lineage", str(page))], spec)
    assert set(found.values()) == {"../../docs/a%20page.html"}
    summary = summarise("poll", Funnel(), [("Data Docs", spec.uri("docs/a page.html"))], spec, "http://files")
    assert '<a href="../../docs/a%20page.html">Data Docs</a>' in html_page(summary)
    assert "[Data Docs](http://files/docs/a%20page.html)" in markdown(summary)


@pytest.mark.parametrize("wrong", ["javascript:alert(1)", "files.example", "https://me:secret@files.example"])
def test_an_address_that_is_no_web_page_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("CROPLINE_STORAGE__BROWSE_URL", wrong)
    with pytest.raises(SettingsError, match="CROPLINE_STORAGE__BROWSE_URL: must be http"):
        load_settings()


def test_the_ui_is_shown_keys_below_the_output_and_whole_addresses_of_what_lies_elsewhere(tmp_path: Path) -> None:
    spec = StoreSpec("s3://bucket/cropline")
    found = markdown(
        summarise("poll", Funnel(), [("report", spec.uri("reports/a.html")), ("lineage", "http://c")], spec)
    )
    assert "| output | `s3://bucket/cropline/` |" in found
    assert "| report | `reports/a.html` |" in found
    assert "`http://c`" in found
