"""``cropline check``: the storage, the state database, the engine and the Prefect server."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from cropline.cli.findings import Finding
from cropline.config.places import normal_name
from cropline.config.settings import Settings
from cropline.core import store_probe
from cropline.core.errors import CroplineError
from cropline.core.scrub import one_line

# The package that an engine needs, and its extra.
_PACKAGES = {
    "spark": ("pyspark", "spark"),
    "spark-connect": ("pyspark", "spark"),
    "dask": ("distributed", "dask"),
    "ray": ("ray", "ray"),
}


def storage(settings: Settings) -> Finding:
    """Probe the storage. The probe writes a few keys below .cropline/ and deletes them."""
    spec = settings.storage.spec
    try:
        found = store_probe.probe(spec)
    except CroplineError as error:
        return Finding("wrong", "storage", str(error), "CROPLINE_STORAGE__URL, and the credentials of its cloud")
    broken = next((promise for promise in found if promise.broken), None)
    if broken is not None:
        return Finding("wrong", "storage", store_probe.refusal(spec, broken), f"CROPLINE_STORAGE__URL: {broken.remedy}")
    return Finding("ok", "storage", f"{spec.url}: {', '.join(promise.name for promise in found)}")


def database(settings: Settings) -> Finding:
    """Look at the state database without creating or migrating it."""
    from cropline.state.look import look

    sources = {name: settings.of(name).api.address for name in settings.source_names}
    try:
        return Finding("ok", "database", look(settings.state, settings.storage.spec.identity, sources))
    except CroplineError as error:
        return Finding("wrong", "database", str(error), "CROPLINE_STATE__URL")


def engine(settings: Settings) -> Finding:
    """Look for what the engine, and lossless profiles, need on this machine. No cluster is started."""
    kind = settings.engine.kind
    kinds = {kind, settings.engine.auto.burst} if kind == "auto" else {kind}
    for one in sorted(kinds):
        package, extra = _PACKAGES.get(one, ("", ""))
        if package and find_spec(package) is None:
            to_do = f"CROPLINE_ENGINE__KIND: pip install 'cropline[{extra}]', or choose another engine"
            return Finding("wrong", "engine", f"{one} needs the package {package}, which is not installed here", to_do)
        if one == "spark" and shutil.which("java", path=_java_path()) is None:
            return Finding(
                "wrong",
                "engine",
                "spark needs Java 17, and there is no java here",
                "CROPLINE_ENGINE__KIND: set JAVA_HOME",
            )
    lossless = _lossless_profile(settings)
    if lossless is not None:
        from fugue_jobs.imaging.lossless import cannot_copy

        refusal = cannot_copy()
        if refusal is not None:
            return Finding("wrong", "engine", f"profile {lossless}: {refusal}", "CROPLINE_PROFILES")
    clustered = "; its cluster is asked by the first batch" if kinds - {"native", "duckdb"} else ""
    return Finding("ok", "engine", f"{kind}{clustered}")


def _lossless_profile(settings: Settings) -> str | None:
    """Return the first lossless jpeg profile that is cut on this machine."""
    for source in settings.source_names:
        own = settings.of(source)
        if own.engine.cuts_here:
            found = next((name for name, profile in own.profiles.items() if profile.copies_bits), None)
            if found is not None:
                return found
    return None


def _java_path() -> str:
    home = os.environ.get("JAVA_HOME")
    return f"{home}/bin" if home else os.environ.get("PATH", "")


def prefect(settings: Settings) -> Finding:
    """Ask the Prefect server at PREFECT_API_URL whether it is healthy, and whether the deployments are there."""
    from automations.server import address, missing_deployments

    url = one_line(address())
    if not url:
        return Finding("note", "Prefect", "PREFECT_API_URL is not set: each command starts a server for itself")
    own = [f"poll-{normal_name(name)}" for name in settings.source_names] if settings.sources else ["poll"]
    wanted = [settings.named(name) for name in own]
    try:
        missing = missing_deployments(wanted)
    except CroplineError as error:
        return Finding(
            "wrong", "Prefect", str(error), "PREFECT_API_URL: the server's address, http(s)://host[:port]/api"
        )
    if missing:
        return Finding("note", "Prefect", f"{url} answers; not deployed: {', '.join(missing)}", "cropline deploy")
    return Finding("ok", "Prefect", f"{url}; deployed: {', '.join(wanted)}")
