"""Our own code and the user's modules as zips or as folders, for workers that have only the third-party wheels."""

import hashlib
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cropline
import fugue_jobs
from cropline.core.errors import EngineError
from fugue_jobs.engines.packages import IMPORTED, SHIPPED

# The subpackages of cropline that the crop code imports. The rest is for the machine that starts the job.
_PACKAGES = (
    "cropline", "cropline/core", "cropline/config", "cropline/intake", "cropline/intake/sources", "cropline/packs",
    "cropline/pipeline", "fugue_jobs", "fugue_jobs/engines", "fugue_jobs/fetching", "fugue_jobs/frame",
    "fugue_jobs/imaging", "fugue_jobs/pool",
)  # fmt: skip

_COMPILED = re.compile(r"\.(so|pyd|dll|dylib)(\.[0-9]+)*$")
_OURS = frozenset({"cropline", "fugue_jobs"})
# Each worker gets a copy, at each start of a session.
MOST_BYTES = 100_000_000

# The same code always produces the same zip.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


@cache
def zipped_packages() -> Path:
    """Return a zip of _PACKAGES without their subpackages: a new file, or the zip that this code runs from."""
    home = Path(cropline.__file__).parents[1]
    if zipfile.is_zipfile(home):
        return home
    target = Path(tempfile.mkdtemp(prefix="cropline-code-")) / "cropline-code.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in _PACKAGES:
            top, _, below = package.partition("/")
            folder = Path(str({"cropline": cropline, "fugue_jobs": fugue_jobs}[top].__file__)).parent / below
            for source in sorted(folder.iterdir()):
                if source.suffix in (".py", ".fsql"):
                    _add(archive, source, package)
    return target


def zips(ship: Sequence[str]) -> list[Path]:
    """Return all zips for workers: zipped_packages, and one of the user's modules (CROPLINE_ENGINE__SHIP), if any.

    Raise EngineError for a module that is not installed here or that no zip can hold.
    """
    return [zipped_packages(), *([_zipped_modules(tuple(ship))] if ship else [])]


@cache
def _zipped_modules(names: tuple[str, ...]) -> Path:
    home = Path(tempfile.mkdtemp(prefix=SHIPPED))
    found = sorted({name: source for module in names for name, source in _files_of(module)}.items())
    # The name changes with the content: a cluster keeps files by their names.
    content = hashlib.sha256()
    for name, source in found:
        content.update(f"{name} {hashlib.sha256(source.read_bytes()).hexdigest()}".encode())
    target = home / f"{SHIPPED}{content.hexdigest()[:16]}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in found:
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), source.read_bytes())
    return target


def _files_of(module: str) -> Iterator[tuple[str, Path]]:
    """Yield (name in the zip, file) of a module or a package with its data files."""
    taken, top = 0, _home_of(module)
    inside = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
    outside = top.parent if top.is_file() else top
    for source in inside:
        name = str(source.relative_to(top.parent))
        if "__pycache__" in source.parts:
            continue
        if _COMPILED.search(source.name):
            raise _refused(
                f"{module} holds compiled code ({name}), which Python cannot load from a zip: install it on the workers"
            )
        if not source.resolve().is_relative_to(outside.resolve()):
            raise _refused(f"{module} holds a link that leads out of it ({name}): put a copy of the file there")
        taken += source.stat().st_size
        if taken > MOST_BYTES:
            raise _refused(
                f"{module} has more than {MOST_BYTES // 1_000_000} MB of files: install it on the workers, or keep its "
                "data elsewhere"
            )
        yield name, source


def _home_of(module: str) -> Path:
    """Return the file of a module, or the folder of a package."""
    if module in sys.stdlib_module_names:
        raise _refused(f"{module} is a module of Python itself, and would hide it on the workers: rename yours")
    if module in _OURS or module in IMPORTED:
        raise _refused(
            f"{module} is a package that the crop job imports, and would hide the workers' own: workers need it installed"
        )
    try:
        spec = find_spec(module) if module != "__main__" else None
    except ValueError:  # a module that was made, and not found, has no spec
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if len(places) > 1:
        raise _refused(f"{module} lies in {len(places)} folders: give it an __init__.py in one of them")
    found = Path(places[0] if places else (spec.origin if spec else None) or "")
    if spec is None or not (found.is_dir() if places else found.is_file()):
        raise _refused(f"no module {module} is found here, as a file or a folder: install it, or see PYTHONPATH")
    return found


def _refused(why: str) -> EngineError:
    return EngineError(f"CROPLINE_ENGINE__SHIP: {why}")


@cache
def package_folders(ship: tuple[str, ...] = ()) -> list[Path]:
    """Return the same as folders and modules, one per top-level name, for a cluster that accepts no zip."""
    home = Path(tempfile.mkdtemp(prefix="cropline-code-"))
    for path in zips(ship):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(home)
    return sorted(home.iterdir())


def _add(archive: zipfile.ZipFile, source: Path, package: str) -> None:
    archive.writestr(zipfile.ZipInfo(f"{package}/{source.name}", _TIMESTAMP), source.read_bytes())
