"""What is sent to workers contains all of our own code that they import."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cropline.core.errors import EngineError
from fugue_jobs.engines import shipping
from fugue_jobs.engines.shipping import zipped_packages, zips

# Every module of the crop code, from the zip alone: without a checkout and an installed cropline.
IMPORT_ALL = """
import importlib, sys, zipfile
from importlib.machinery import PathFinder
code = sys.argv[1]
sys.meta_path[:] = [f for f in sys.meta_path if f in (PathFinder,) or f.__module__.startswith(("_frozen", "importlib"))]
sys.path[:] = [code] + [p for p in sys.path if p.startswith(sys.base_prefix) or p.endswith("site-packages")]
names = [n for n in zipfile.ZipFile(code).namelist() if n.endswith(".py")]
for name in names:
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if module.startswith("fugue_jobs"):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            # Optional: needed only by the process that submits the job.
            if error.name not in ("distributed", "ray"):
                raise
ours = [m for n, m in sys.modules.items() if n.partition(".")[0] in ("cropline", "fugue_jobs")]
assert all(m.__file__.startswith(code) for m in ours), [m.__file__ for m in ours]
print(len(ours))
"""


def test_the_crop_code_imports_from_what_is_shipped_alone(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-I", "-c", IMPORT_ALL, str(zipped_packages())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    assert int(child.stdout) > 30


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's package, with a data file."""
    folder = tmp_path / "src" / "shelf_pack"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "names.txt").write_text("cola")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_a_package_travels_with_its_data_and_a_module_alone(shop: Path) -> None:
    (shop / "__pycache__").mkdir()
    (shop / "__pycache__" / "old.pyc").write_bytes(b"x")
    (shop.parent / "shelf_single.py").write_text("")
    names = zipfile.ZipFile(zips(["shelf_pack", "shelf_single"])[1]).namelist()
    assert names == ["shelf_pack/__init__.py", "shelf_pack/names.txt", "shelf_single.py"]


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (
            "shelf_nowhere",
            "no module shelf_nowhere is found here, as a file or a folder: install it, or see PYTHONPATH",
        ),
        ("__main__", "no module __main__ is found here"),
        ("json", "json is a module of Python itself, and would hide it on the workers: rename yours"),
        (
            "PIL",
            "PIL is a package that the crop job imports, and would hide the workers' own: workers need it installed",
        ),
        ("cropline", "cropline is a package that the crop job imports"),
    ],
)
def test_a_module_that_cannot_travel_is_refused_by_name(module: str, told: str) -> None:
    with pytest.raises(EngineError, match=f"^CROPLINE_ENGINE__SHIP: {re.escape(told)}"):
        zips([module])


@pytest.mark.parametrize("name", ["fast.so", "fast.cpython-311-x86_64-linux-gnu.so", "libfast.so.1.2", "fast.pyd"])
def test_compiled_code_is_refused(shop: Path, name: str) -> None:
    (shop / name).write_bytes(b"\x7fELF")
    told = rf"^CROPLINE_ENGINE__SHIP: shelf_pack holds compiled code \(shelf_pack/{re.escape(name)}\).* on the workers$"
    with pytest.raises(EngineError, match=told):
        zips(["shelf_pack"])


def test_a_file_outside_is_not_sent(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    (shop / "notes.txt").symlink_to(tmp_path / "secret")
    told = r"^CROPLINE_ENGINE__SHIP: shelf_pack holds a link that leads out of it \(shelf_pack/notes\.txt\)"
    with pytest.raises(EngineError, match=told):
        zips(["shelf_pack"])


def test_a_package_that_is_itself_a_link_is_sent(shop: Path) -> None:
    (shop.parent / "shelf_linked").symlink_to(shop)
    assert "shelf_linked/names.txt" in zipfile.ZipFile(zips(["shelf_linked"])[1]).namelist()


def test_a_package_in_two_folders_is_refused(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("one", "two"):
        (shop.parent / place / "shelf_spread").mkdir(parents=True)
        monkeypatch.syspath_prepend(str(shop.parent / place))
    with pytest.raises(EngineError, match="^CROPLINE_ENGINE__SHIP: shelf_spread lies in 2 folders"):
        zips(["shelf_spread"])


def test_too_large_a_package_is_refused(shop: Path) -> None:
    with (shop / "model.bin").open("wb") as file:
        file.truncate(shipping.MOST_BYTES)
    (shop / "z.txt").write_text("one byte too many")
    with pytest.raises(EngineError, match="^CROPLINE_ENGINE__SHIP: shelf_pack has more than 100 MB of files"):
        zips(["shelf_pack"])
