"""A package of an extra that is missing is one line that says what to install."""

from __future__ import annotations

import sys
from typing import NoReturn

import pytest

from cropline.config.engine import EngineSettings
from cropline.core.errors import EngineError, SettingsError


@pytest.mark.parametrize(
    ("kind", "extra"),
    [("spark", "spark"), ("spark-connect", "spark"), ("dask", "dask"), ("ray", "ray")],
)
def test_an_engine_names_its_extra(kind: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fugue_jobs.engines import sessions

    def missing(*_: object) -> NoReturn:
        raise ModuleNotFoundError("No module named 'x'", name="x")

    monkeypatch.setattr(sessions, "_opened", missing)
    settings = {"kind": kind} | ({"connect": {"url": "sc://127.0.0.1:1"}} if kind == "spark-connect" else {})
    with pytest.raises(EngineError, match=rf"engine {kind} needs .* x: pip install 'cropline\[{extra}\]'"):
        sessions._started(EngineSettings.model_validate(settings), 1)


def test_judging_manifests_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from expectations.gx import import_gx

    monkeypatch.setitem(sys.modules, "great_expectations", None)
    with pytest.raises(SettingsError, match=r"pip install 'cropline\[validation\]'"):
        import_gx()


def test_the_simulated_cameras_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from cropline.cli.demo import check_demo_installed

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(SettingsError, match=r"need uvicorn: pip install 'cropline\[demo\]'"):
        check_demo_installed()
