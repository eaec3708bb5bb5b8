"""What workers need installed, compared with this process before the first batch of a session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from cropline.core.errors import EngineError

log = logging.getLogger(__name__)

Packages: TypeAlias = dict[str, str]  # version by distribution; "" is unknown, a missing key is not installed

# What the crop job imports on a worker.
NEEDED = (
    "certifi", "cloudpickle", "fugue", "jmespath", "numpy", "obstore", "pandas", "pillow", "pyarrow", "pydantic",
    "pydantic-settings", "requests", "triad", "urllib3",
)  # fmt: skip
_REGIONS = "cropline-regions"
_MODULES = {"pillow": "PIL", "pydantic-settings": "pydantic_settings", _REGIONS: "cropline_regions"}
IMPORTED = frozenset(_MODULES.get(name, name) for name in (*NEEDED, _REGIONS))
# Begins the key of a module that is to be shipped and that the worker has already; the value is its place.
_OWN = "module "
# In the name of every zip of shipped modules: a Dask worker keeps those of earlier sessions.
SHIPPED = "cropline-ship-"
# Another version of these may give other bytes for the same crop.
_DRAW = ("pillow", _REGIONS)
_NAMED = 3  # workers named in one line


def installed(ship: Iterable[str] = ()) -> Callable[..., Packages]:
    """Return a function that returns the versions of the process that runs it.

    ship: modules that are to be sent to it; those that it has already are told too.

    It is nested, because cloudpickle then sends its code: workers do not have this module yet.
    """
    names = [*NEEDED, _REGIONS]
    modules, own, shipped = _MODULES, _OWN, tuple(ship)

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
        for name in shipped:
            spec = importlib.util.find_spec(name)
            if spec is not None:
                versions[own + name] = str(spec.origin)
        return versions

    return found


def compare(cluster: str, workers: Mapping[str, Packages], here: Packages | None = None) -> None:
    """Raise EngineError for a missing package, another Python, or a module that hides a shipped one or is hidden by it.

    Log versions that may change crops' bytes.

    workers: by name. here: this process's packages; None: asked now.
    """
    if not workers:
        return
    own = {key.removeprefix(_OWN) for theirs in workers.values() for key in theirs if key.startswith(_OWN)}
    ours = here or installed(own)()
    missing: dict[str, list[str]] = {}
    pythons: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    twice: dict[str, list[str]] = {}
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
        for name in own:
            place = theirs.get(_OWN + name)
            # The same file, on a shared disk, is no danger.
            if place is not None and SHIPPED not in place and place != ours.get(_OWN + name):
                twice.setdefault(f"another module {name} ({place})", []).append(worker)
    if missing:
        told = _told(missing, "lacks")
        raise EngineError(f"{cluster}: {told}: install the packages of requirements/run.lock on every worker")
    if pythons:
        told = _told(pythons, "runs")
        raise EngineError(f"{cluster}: {told}; this process runs Python {ours['python']}: both must be the same 3.x")
    if twice:
        told = _told(twice, "has")
        raise EngineError(
            f"{cluster}: {told}: take it out of CROPLINE_ENGINE__SHIP if the workers' own is right, else uninstall it there"
        )
    for difference, names in others.items():
        log.warning("%s: %s: crops may differ in their bytes", cluster, _told({difference: names}, "has"))


def compare_lossless(cluster: str, workers: Mapping[str, Packages]) -> None:
    """Raise EngineError for a worker without cropline-regions, which lossless jpeg profiles need. workers: by name."""
    lacking = [worker for worker, theirs in sorted(workers.items()) if _REGIONS not in theirs]
    if lacking:
        raise EngineError(
            f"{cluster}: {_told({_REGIONS: lacking}, 'lacks')}, which a lossless jpeg profile needs on every worker: "
            "pip install --upgrade 'cropline[regions]' there, or take lossless out of the profile"
        )


def _version(packages: Packages, name: str) -> str:
    return "not installed" if name not in packages else packages[name] or "of unknown version"


def _told(found: dict[str, list[str]], verb: str) -> str:
    return "; ".join(f"{_some(names)} {verb} {what}" for what, names in found.items())


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def _some(names: list[str]) -> str:
    more = f" (and {len(names) - _NAMED} more)" if len(names) > _NAMED else ""
    return f"worker {', '.join(names[:_NAMED])}{more}"
