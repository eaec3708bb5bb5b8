"""What workers need installed, compared with this process before the first batch of a session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

from cropline.core.errors import EngineError

log = logging.getLogger(__name__)

Packages: TypeAlias = dict[str, str]  # version by distribution; "" is unknown, a missing key is not installed

# What the crop job imports on a worker.
NEEDED = (
    "certifi", "cloudpickle", "fugue", "jmespath", "numpy", "obstore", "pandas", "pillow", "pyarrow", "pydantic",
    "pydantic-settings", "requests", "triad", "urllib3",
)  # fmt: skip
# Another version of these may give other bytes for the same crop.
_DRAW = ("pillow", "cropline-regions")
_NAMED = 3  # workers named in one line


def installed() -> Callable[..., Packages]:
    """Return a function that returns the versions of the process that runs it.

    It is nested, because cloudpickle then sends its code: workers do not have this module yet.
    """
    names = [*NEEDED, "cropline-regions"]
    modules = {"pillow": "PIL", "pydantic-settings": "pydantic_settings", "cropline-regions": "cropline_regions"}

    def found(*_: object) -> dict[str, str]:
        import importlib.metadata
        import importlib.util
        import platform

        versions = {"python": platform.python_version()}
        for name in names:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                # A zipped environment may have modules without metadata.
                if importlib.util.find_spec(modules.get(name, name)) is not None:
                    versions[name] = ""
        return versions

    return found


def compare(cluster: str, workers: Mapping[str, Packages], here: Packages | None = None) -> None:
    """Raise EngineError for a missing package or another Python; log versions that may change crops' bytes.

    workers: by name. here: this process's packages; None: asked now.
    """
    if not workers:
        return
    ours = here or installed()()
    missing: dict[str, list[str]] = {}
    pythons: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for worker, theirs in sorted(workers.items()):
        lacks = [name for name in NEEDED if name not in theirs]
        if lacks:
            missing.setdefault(", ".join(lacks), []).append(worker)
        if _minor(theirs["python"]) != _minor(ours["python"]):
            pythons.setdefault(f"Python {theirs['python']}", []).append(worker)
        for name in _DRAW:
            if theirs.get(name) != ours.get(name):
                difference = f"{name} {_version(theirs, name)}, and here it is {_version(ours, name)}"
                others.setdefault(difference, []).append(worker)
    if missing:
        told = _told(missing, "lacks")
        raise EngineError(f"{cluster}: {told}: install the packages of requirements/run.lock on every worker")
    if pythons:
        told = _told(pythons, "runs")
        raise EngineError(f"{cluster}: {told}; this process runs Python {ours['python']}: both must be the same 3.x")
    for difference, names in others.items():
        log.warning("%s: %s: crops may differ in their bytes", cluster, _told({difference: names}, "has"))


def _version(packages: Packages, name: str) -> str:
    return "not installed" if name not in packages else packages[name] or "of unknown version"


def _told(found: dict[str, list[str]], verb: str) -> str:
    return "; ".join(f"{_some(names)} {verb} {what}" for what, names in found.items())


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def _some(names: list[str]) -> str:
    more = f" (and {len(names) - _NAMED} more)" if len(names) > _NAMED else ""
    return f"worker {', '.join(names[:_NAMED])}{more}"
