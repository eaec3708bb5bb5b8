"""Which of Fugue's plugins a job on this machine loads."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from triad.collections import function_wrapper
from triad.utils import dispatcher, entry_points

from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings
from fugue_jobs.engines import plugins
from fugue_jobs.engines.run import run_crop_job
from fugue_jobs.engines.script import own_script
from tests.contract import jobs
from tests.photos import drawn, encoded, photo_server


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names whose plugins were loaded: Fugue itself does so once in a process."""
    names: list[str] = []
    plugins._watch.cache_clear()
    for module in (entry_points, dispatcher, function_wrapper):
        monkeypatch.setattr(module, "load_entry_point", names.append)
    yield names
    plugins._watch.cache_clear()


def crop_one(folder: Path, script: Path | None) -> None:
    with photo_server() as host:
        host.photos["a.jpg"] = encoded(drawn(200, 150))
        rows = [jobs.image(0, host.url("a.jpg"), [jobs.box("a", 0.1, 0.1, 0.5, 0.5)])]
        job = jobs.job(folder, processes=1)
        tables = jobs.landed(job.store, rows), jobs.claims(rows, {"default": Profile()}), jobs.stores()
        engine = EngineSettings(kind="native", script=str(script) if script else None)
        assert run_crop_job(*tables, job, engine)["status"].to_pylist() == ["written"]


def test_the_built_in_script_loads_no_plugins_and_a_users_script_does(loaded: list[str], tmp_path: Path) -> None:
    crop_one(tmp_path / "out", None)
    assert loaded == []
    script = tmp_path / "own.fsql"
    script.write_text(own_script())
    crop_one(tmp_path / "own", script)
    assert set(loaded) == {"fugue.plugins"}


def test_another_thread_loads_them_meanwhile(loaded: list[str]) -> None:
    with plugins.no_plugins():
        dispatcher.load_entry_point("fugue.plugins")
        other = threading.Thread(target=lambda: dispatcher.load_entry_point("fugue.plugins"))
        other.start()
        other.join()
        assert loaded == ["fugue.plugins"]
    dispatcher.load_entry_point("fugue.plugins")
    assert loaded == ["fugue.plugins"] * 2
