"""``python -m automations.deploy``: puts everything that cropline needs on a Prefect server."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentUpdate,
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
)
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from automations.__main__ import ZOMBIES
from automations.apply import apply_files
from automations.environments import TAG, for_environment, refuse_other_pools
from automations.form import form_schema
from automations.prefect_yaml import deployments, for_sources, is_template, refuse_mistakes
from automations.server import all_deployments, server
from cropline.config.settings import Settings, load_installation
from cropline.core.errors import CroplineError, SettingsError
from cropline.core.store_probe import require
from tasks.rate_limit import limit_of

_SECONDS = 180
_JOB_TEMPLATE = Path(__file__).with_name("kubernetes_job.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m automations.deploy", description=__doc__)
    parser.add_argument("--file", type=Path, default=None)
    parser.add_argument(
        "--crash-leftovers",
        action="store_true",
        help="mark all Running flow runs as Crashed; only when no worker is running",
    )
    given = parser.parse_args(arguments)
    try:
        deploy(given.file, crash_leftovers=given.crash_leftovers)
    except CroplineError as error:
        print(f"deploy: {error.code}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def deploy(file: Path | None = None, *, crash_leftovers: bool = False) -> None:
    """Check the file, then put pool, limit, deployments and the zombie automation on the server.

    ``file``: the deployments; None is default_file().
    """
    path = file or default_file()
    refuse_mistakes(path)
    settings = load_installation()
    _prove_storage(settings)
    entries = deployments(path)
    if settings.sources:
        entries = for_sources(entries, settings.source_names)
    entries = for_environment(entries, settings)
    if settings.pool_type != "process" and not settings.image:
        raise SettingsError(f"CROPLINE_IMAGE: a work pool of the type {settings.pool_type} needs the image of the runs")
    with server() as client:
        refuse_other_pools(client, entries)
        for name in sorted({entry["work_pool"]["name"] for entry in entries}):
            _say(f"work pool {name}", _ensure_pool(client, name, settings.pool_type))
            if crash_leftovers:
                _say(f"runs that a dead worker left Running in {name}", f"{_crash_running(client, name)} crashed")
        for source in settings.source_names:
            own = settings.of(source)
            _say(f"rate limit {limit_of(own)}", _ensure_limit(client, limit_of(own), own.api.calls_per_s))
        paused = _paused(client)
        for name in _drop_other_sources(client, for_environment(deployments(path), settings), entries, settings):
            _say(f"deployment {name}", "removed")
    _run_prefect(path, entries)
    with server() as client:
        for entry in entries:
            flow = entry["entrypoint"].partition(":")[2]
            deployment = client.read_deployment_by_name(f"{flow}/{entry['name']}")
            _show_form(client, deployment, entry, settings)
            if entry["name"] in paused:
                client.update_deployment(deployment.id, DeploymentUpdate(paused=True))
                _say(f"deployment {entry['name']}", "still paused")
            _drop_other_schedules(client, deployment, entry)
    for name, done in apply_files([ZOMBIES], settings=settings):
        _say(f"automation {name!r}", done)


def default_file() -> Path:
    """Return ``prefect.yaml`` of the current folder, which may have been changed, else the package's."""
    here = Path("prefect.yaml")
    return here if here.exists() else Path(__file__).with_name("prefect.yaml")


def _prove_storage(settings: Settings) -> None:
    """Refuse a store that loses commits before a worker uses it. The worker's first run checks a local folder."""
    spec = settings.storage.spec
    if spec.scheme not in ("file", "memory"):
        require(spec, again=True)
        _say(f"storage {spec.url}", "proven")


def _say(what: str, done: str) -> None:
    print(f"{done:<12} {what}", flush=True)  # noqa: T201


def _ensure_pool(client: SyncPrefectClient, name: str, kind: str) -> str:
    """Make the pool if it is missing. A Kubernetes pool gets cropline's job template."""
    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        template = json.loads(_JOB_TEMPLATE.read_text(encoding="utf-8")) if kind == "kubernetes" else {}
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
        return "created"
    if found.type != kind:
        raise SettingsError(
            f"the work pool {name} has the type {found.type}, not {kind}: set CROPLINE_POOL_TYPE, or another "
            "CROPLINE_ENVIRONMENT"
        )
    return "unchanged"


def _ensure_limit(client: SyncPrefectClient, name: str, calls_per_s: float) -> str:
    """Set a limit whose slots return at the given rate. One second's worth may be used at once."""
    slots = max(1, round(calls_per_s))
    try:
        found = client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=name, limit=slots, slot_decay_per_second=calls_per_s)
        )
        return "created"
    if (found.limit, found.slot_decay_per_second) == (slots, calls_per_s):
        return "unchanged"
    client.update_global_concurrency_limit(
        name, GlobalConcurrencyLimitUpdate(limit=slots, slot_decay_per_second=calls_per_s)
    )
    return "updated"


def _run_prefect(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Deploy these entries with Prefect's own command, which reads a prefect.yaml."""
    whole = yaml.safe_load(path.read_text(encoding="utf-8")) | {"deployments": list(entries)}
    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        # The flows are installed code, so nothing depends on the folder.
        made = Path(folder, "prefect.yaml")
        made.write_text(yaml.safe_dump(whole), encoding="utf-8")
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", made.name]
        done = subprocess.run(  # noqa: S603 - this interpreter, constant arguments
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    if done.returncode:
        raise SettingsError(f"prefect deploy failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    for entry in entries:
        _say(f"deployment {entry['name']}", "deployed")


def _paused(client: SyncPrefectClient) -> set[str]:
    """Return the names of paused deployments. Prefect's deploy would start them again, perhaps during an incident."""
    return {deployment.name for deployment in all_deployments(client) if deployment.paused}


def _drop_other_sources(
    client: SyncPrefectClient,
    templates: Sequence[dict[str, Any]],
    entries: Sequence[dict[str, Any]],
    settings: Settings,
) -> list[str]:
    """Remove deployments of templates for sources that are no more, or from before there were several.

    Their schedules would go on. Return their names.
    """
    points = {entry["entrypoint"]: entry["name"] for entry in templates if is_template(entry)}
    wanted = {entry["name"] for entry in entries}
    others = [
        deployment
        for deployment in all_deployments(client)
        if (name := points.get(deployment.entrypoint or "")) is not None
        and deployment.name not in wanted
        and (deployment.name == name or any(tag.startswith("source:") for tag in deployment.tags or ()))
        and settings.named(TAG) in (deployment.tags or ())
    ]
    for deployment in others:
        client.delete_deployment(deployment.id)
    return [deployment.name for deployment in others]


def _show_form(
    client: SyncPrefectClient, deployment: DeploymentResponse, entry: dict[str, Any], settings: Settings
) -> None:
    module, _, name = entry["entrypoint"].partition(":")
    sources = settings.source_names if settings.sources else ()
    schema = form_schema(getattr(import_module(module), name), deployment.parameter_openapi_schema or {}, sources)
    client.update_deployment(deployment.id, DeploymentUpdate(parameter_openapi_schema=schema))


def _drop_other_schedules(client: SyncPrefectClient, deployment: DeploymentResponse, entry: dict[str, Any]) -> None:
    """Remove schedules that left the file. Prefect would keep and run them."""
    wanted = {schedule.get("slug") for schedule in entry.get("schedules") or ()}
    for schedule in deployment.schedules:
        if schedule.slug not in wanted:
            client.delete_deployment_schedule(deployment.id, schedule.id)
            _say(f"schedule {schedule.slug or schedule.id} of {deployment.name}", "removed")


def _crash_running(client: SyncPrefectClient, pool: str) -> int:
    dead = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
            )
        ),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )
    for run in dead:
        client.set_flow_run_state(run.id, Crashed(message="Its worker is gone."), force=True)
    return len(dead)


if __name__ == "__main__":
    sys.exit(main())
