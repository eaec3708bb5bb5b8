"""Our own code as a zip or as folders, for workers that have only the third-party wheels."""

import tempfile
import zipfile
from functools import cache
from pathlib import Path

import cropline
import fugue_jobs

# The subpackages of cropline that the crop code imports. The rest is for the machine that starts the job.
_PACKAGES = (
    "cropline", "cropline/core", "cropline/config", "cropline/intake", "cropline/intake/sources", "cropline/packs",
    "cropline/pipeline", "fugue_jobs", "fugue_jobs/engines", "fugue_jobs/fetching", "fugue_jobs/frame",
    "fugue_jobs/imaging", "fugue_jobs/pool",
)  # fmt: skip

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


@cache
def package_folders() -> list[Path]:
    """Return the same as folders, one per top-level package, for a cluster that accepts no zip."""
    home = Path(tempfile.mkdtemp(prefix="cropline-code-"))
    with zipfile.ZipFile(zipped_packages()) as archive:
        archive.extractall(home)
    return [home / package for package in _PACKAGES if "/" not in package]


def _add(archive: zipfile.ZipFile, source: Path, package: str) -> None:
    archive.writestr(zipfile.ZipInfo(f"{package}/{source.name}", _TIMESTAMP), source.read_bytes())
