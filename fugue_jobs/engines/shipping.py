"""Our own code and the user's modules as zips or as folders, for workers that have only the third-party wheels."""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cropline
import fugue_jobs
from cropline.core.errors import EngineError

# The subpackages of cropline that the crop code imports. The rest is for the machine that starts the job.
_PACKAGES = (
    "cropline", "cropline/core", "cropline/config", "cropline/intake", "cropline/intake/sources", "cropline/packs",
    "cropline/pipeline", "fugue_jobs", "fugue_jobs/engines", "fugue_jobs/fetching", "fugue_jobs/frame",
    "fugue_jobs/imaging", "fugue_jobs/pool",
)  # fmt: skip

_COMPILED = (".so", ".pyd", ".dylib")

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
    home = Path(tempfile.mkdtemp(prefix="cropline-ship-"))
    found = sorted({name: source for module in names for name, source in _files_of(module)}.items())
    # The name changes with the content: a cluster keeps files by their names.
    content = hashlib.sha256()
    for name, source in found:
        content.update(f"{name} {hashlib.sha256(source.read_bytes()).hexdigest()}".encode())
    target = home / f"cropline-ship-{content.hexdigest()[:16]}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in found:
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), source.read_bytes())
    return target


def _files_of(module: str) -> Iterator[tuple[str, Path]]:
    """Yield (name in the zip, file) of a module or a package with its data files."""
    spec = find_spec(module)
    places = [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
    if not places and (spec is None or not spec.origin or not Path(spec.origin).is_file()):
        raise EngineError(f"CROPLINE_ENGINE__SHIP: no module {module} is installed here")
    alone = [] if places else [Path(str(spec.origin))] if spec else []
    inside = [(source, place) for place in places for source in place.rglob("*") if source.is_file()]
    for source, top in [*((source, source.parent) for source in alone), *((s, p.parent) for s, p in inside)]:
        if source.suffix in _COMPILED:
            raise EngineError(
                f"CROPLINE_ENGINE__SHIP: {module} holds compiled code ({source.name}), which Python cannot load from a "
                "zip: install it on the workers"
            )
        if "__pycache__" not in source.parts:
            yield str(source.relative_to(top)), source


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
