"""Several sources in one installation: each has its own settings over the common ones, and its own name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cropline.config.settings import load_installation, load_settings
from cropline.core.errors import SettingsError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(monkeypatch: pytest.MonkeyPatch, sources: dict[str, Any]) -> None:
    monkeypatch.setenv("CROPLINE_SOURCES", json.dumps(sources))


TWO = {
    "acme": {"api": {"url": "http://a"}},
    "zeta": {"api": {"url": "http://z", "page_size": 7}, "batch": {"images": 9}},
}


def test_each_source_has_its_own_settings_over_the_common_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, TWO)
    monkeypatch.setenv("CROPLINE_API__PAGE_SIZE", "5")
    monkeypatch.setenv("CROPLINE_API__AUTH__KIND", "bearer")  # the tokens are in the sources
    monkeypatch.setenv("CROPLINE_SOURCES__ACME__API__TOKEN", "a-token")
    monkeypatch.setenv("CROPLINE_SOURCES__ZETA__API__TOKEN", "z-token")
    monkeypatch.setenv("CROPLINE_FETCH__ALLOWED_HOSTS", '["cdn.example"]')
    acme, zeta = load_settings("acme"), load_settings("zeta")
    assert (acme.api.source, acme.api.url, acme.api.page_size, acme.api.secret_token) == (
        "acme",
        "http://a",
        5,
        "a-token",
    )
    assert (zeta.api.source, zeta.api.url, zeta.api.page_size, zeta.api.secret_token) == (
        "zeta",
        "http://z",
        7,
        "z-token",
    )
    assert (acme.batch.images, zeta.batch.images) == (500, 9)
    assert acme.fetch.allowed_hosts == zeta.fetch.allowed_hosts == ("cdn.example",)
    assert acme.storage == zeta.storage
    assert acme.state == zeta.state


def test_none_of_several_is_chosen_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, TWO)
    with pytest.raises(SettingsError, match="name one with --source: acme, zeta$"):
        load_settings()
    with pytest.raises(SettingsError, match="no source 'other'; the sources are acme, zeta$"):
        load_settings("other")
    assert load_installation().api.url == ""


def test_one_source_set_as_before_needs_no_name_and_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_API__SOURCE", "cams")
    assert load_settings().api.source == load_settings("cams").api.source == "cams"
    with pytest.raises(SettingsError, match="the sources are cams$"):
        load_settings("acme")


def test_the_only_source_of_the_map_needs_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, {"acme": TWO["acme"]})
    assert load_settings().api.url == "http://a"


def test_a_variable_reaches_a_source_whose_name_no_variable_can_hold(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "cropline.toml").write_text('[sources."Acme-EU".api]\nurl = "http://file"\npage_size = 3\n')
    monkeypatch.setenv("CROPLINE_SOURCES__ACME_EU__API__URL", "http://variable")
    settings = load_settings("Acme-EU")
    assert (settings.api.source, settings.api.url, settings.api.page_size) == ("Acme-EU", "http://variable", 3)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('{"acme": {}, "acme": {}}', "CROPLINE_SOURCES: the name 'acme' stands twice"),
        ('{"acme": {}, "Acme": {}}', "CROPLINE_SOURCES: two sources by one name, 'acme' and 'Acme'"),
        ('{"a_b": {}, "a.b": {}}', "CROPLINE_SOURCES: two sources by one name, 'a_b' and 'a.b'"),
        ('{"acme eu": {}}', "CROPLINE_SOURCES: 'acme eu' is no name of a source"),
        ('{"acme/eu": {}}', "CROPLINE_SOURCES: 'acme/eu' is no name of a source"),
        ('{"": {}}', "CROPLINE_SOURCES: '' is no name of a source"),
        ('{"acme": {"url": "http://a"}}', "CROPLINE_SOURCES: acme has url; settings stand in their group: api.url"),
        ('{"acme": {"api": {"source": "zeta"}}}', "CROPLINE_SOURCES: acme has api.source"),
        ('{"acme": {"api": {"nope": 1}}}', "CROPLINE_SOURCES__ACME__API__NOPE: unknown setting"),
        ('{"acme": {"storage": {}}}', "CROPLINE_SOURCES__ACME__STORAGE: unknown setting"),
        ('{"acme": 3}', "CROPLINE_SOURCES__ACME: Input should be a valid dictionary"),
        ("3", "CROPLINE_SOURCES: Input should be a valid dictionary"),
        ("acme", "CROPLINE_SOURCES: not JSON"),
    ],
)
def test_a_wrong_source_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    monkeypatch.setenv("CROPLINE_SOURCES", value)
    with pytest.raises(SettingsError) as caught:
        load_installation()
    assert str(caught.value).startswith(says), caught.value
    assert "\n" not in str(caught.value)


def test_a_wrong_common_value_is_named_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, TWO)
    monkeypatch.setenv("CROPLINE_API__TIMEOUT_S", "soon")
    with pytest.raises(SettingsError, match="^CROPLINE_API__TIMEOUT_S: Input should be a valid number[^;]*$"):
        load_installation()
