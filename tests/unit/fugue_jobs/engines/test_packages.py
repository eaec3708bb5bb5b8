"""What workers have installed is compared with this process."""

import subprocess
import sys

import cloudpickle
import pytest

from cropline.core.errors import EngineError
from fugue_jobs.engines.packages import NEEDED, compare, compare_lossless, installed

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


def test_a_worker_that_cannot_copy_bits_is_named() -> None:
    compare_lossless("c", {"a": HERE, "b": without(**{"cropline-regions": ""})})
    with pytest.raises(EngineError) as told:
        compare_lossless("c", {"a": without("cropline-regions"), "b": HERE})
    assert str(told.value) == (
        "c: worker a lacks cropline-regions, which a lossless jpeg profile needs on every worker: "
        "pip install --upgrade 'cropline[regions]' there, or take lossless out of the profile"
    )


def test_the_question_needs_nothing_installed_and_names_what_is_there() -> None:
    asked = cloudpickle.dumps(installed())
    code = """if True:
        import pickle, sys
        sys.modules["fugue_jobs"] = sys.modules["cropline"] = None  # importing them fails
        print(*pickle.loads(sys.stdin.buffer.read())())"""
    done = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, check=True)
    assert set(NEEDED) <= set(done.stdout.decode().split())


def test_a_module_that_the_worker_has_too_is_not_shipped() -> None:
    def worker(place: str) -> dict[str, str]:
        return HERE | {"module my_shop": place}

    with pytest.raises(
        EngineError,
        match=r"^c: worker w has another module my_shop \(/opt/my_shop/__init__\.py\): take it out of CROPLINE_ENGINE__SHIP "
        "if the workers' own is right, else uninstall it there$",
    ):
        compare("c", {"w": worker("/opt/my_shop/__init__.py"), "v": HERE}, worker("/src/my_shop/__init__.py"))
    compare("c", {"w": worker("/src/my_shop.py")}, worker("/src/my_shop.py"))  # a shared disk
    compare(
        "c", {"w": worker("/dask/cropline-ship-0f.zip/my_shop.py")}, worker("/src/my_shop.py")
    )  # an earlier session's


def test_a_worker_tells_where_it_has_modules_that_are_to_be_shipped() -> None:
    told = installed(["shelf_nowhere", "statistics"])()
    assert told["module statistics"].endswith("statistics.py")
    assert "module shelf_nowhere" not in told
