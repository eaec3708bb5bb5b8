"""What workers have installed is compared with this process."""

import subprocess
import sys

import cloudpickle
import pytest

from cropline.core.errors import EngineError
from fugue_jobs.engines.packages import NEEDED, compare, installed

HERE = {"python": "3.11.9", "cropline-regions": "0.1.0"} | dict.fromkeys(NEEDED, "1.0")


def without(*names: str, **other: str) -> dict[str, str]:
    return {name: version for name, version in (HERE | other).items() if name not in names}


def test_workers_like_this_process_are_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    compare("c", {"w": dict(HERE)}, HERE)
    compare("c", {}, HERE)
    assert not caplog.messages


def test_a_missing_package_is_named_with_its_workers() -> None:
    lacking = {f"w{number}": without("pillow", "obstore") for number in range(5)} | {"v": HERE}
    with pytest.raises(EngineError) as told:
        compare("the Dask scheduler at tcp://h:1", lacking, HERE)
    assert str(told.value) == (
        "the Dask scheduler at tcp://h:1: worker w0, w1, w2 (and 2 more) lacks obstore, pillow: "
        "install the packages of requirements/run.lock on every worker"
    )


def test_another_python_is_named() -> None:
    with pytest.raises(
        EngineError, match=r"^c: worker w runs Python 3\.12\.1; this process runs Python 3\.11\.9: both"
    ):
        compare("c", {"w": without(python="3.12.1")}, HERE)
    compare("c", {"w": without(python="3.11.2")}, HERE)


def test_versions_that_may_change_bytes_are_told(caplog: pytest.LogCaptureFixture) -> None:
    compare("c", {"a": without("cropline-regions", pillow="2.0"), "b": without(pyarrow="2.0")}, HERE)
    assert caplog.messages == [
        "c: worker a has pillow 2.0, and here it is 1.0: crops may differ in their bytes",
        "c: worker a has cropline-regions not installed, and here it is 0.1.0: crops may differ in their bytes",
    ]


def test_the_question_needs_nothing_installed_and_names_what_is_there() -> None:
    asked = cloudpickle.dumps(installed())
    code = """if True:
        import pickle, sys
        sys.modules["fugue_jobs"] = sys.modules["cropline"] = None  # importing them fails
        print(*pickle.loads(sys.stdin.buffer.read())())"""
    done = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, check=True)
    assert set(NEEDED) <= set(done.stdout.decode().split())
