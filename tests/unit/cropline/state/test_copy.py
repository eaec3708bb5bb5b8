"""cropline copy-state: its output and its refusals. tests/contract/state/test_backfills.py tests the copy itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropline.cli.copy_state import run_copy
from cropline.config.settings import load_settings
from cropline.core.errors import SettingsError, StateError
from cropline.state import State


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/old.db"
    monkeypatch.setenv("CROPLINE_STATE__URL", url)
    with State.open(load_settings().state) as state:
        state.begin_backfill("f00", "{}")
    return url


def test_it_tells_the_rows_of_each_table_and_what_to_do_next(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = f"sqlite:///{tmp_path}/new.db"
    monkeypatch.setenv("NEW_STATE", new)
    run_copy("NEW_STATE")
    said = " ".join(capsys.readouterr().out.split())
    assert "backfills 1 " in said
    assert "CROPLINE_STATE__URL" in said
    monkeypatch.setenv("CROPLINE_STATE__URL", new)
    with State.open(load_settings().state) as state:
        assert state.unfinished_backfill("f00") is not None
    monkeypatch.setenv("CROPLINE_STATE__URL", old)
    with pytest.raises(StateError, match="not empty: it has rows in backfills"):
        run_copy("NEW_STATE")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "NEW_STATE: is not set"),
        ("mysql://me:canary@host/x", "NEW_STATE: must hold sqlite:///path or postgresql"),
        ("the settings' own", "NEW_STATE: is the database in CROPLINE_STATE__URL"),
        ("postgresql+psycopg://me:canary@127.0.0.1:1/x", "127.0.0.1"),
    ],
)
def test_a_place_that_it_cannot_copy_to_is_told_without_its_password(
    old: str, monkeypatch: pytest.MonkeyPatch, value: str | None, told: str
) -> None:
    monkeypatch.delenv("NEW_STATE", raising=False)
    if value is not None:
        monkeypatch.setenv("NEW_STATE", old if value == "the settings' own" else value)
    with pytest.raises((SettingsError, StateError)) as caught:
        run_copy("NEW_STATE")
    assert told in str(caught.value)
    assert "canary" not in str(caught.value)
