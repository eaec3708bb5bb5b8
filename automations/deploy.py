"""``python -m automations.deploy``: puts everything that cropline needs on a Prefect server."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

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
from automations.form import form_schema
from automations.prefect_yaml import deployments, refuse_mistakes
from automations.server import server
from cropline.config.settings import Settings, load_settings
from cropline.core.errors import CroplineError, SettingsError
from cropline.core.store_probe import require
from tasks.rate_limit import LIMIT

_SECONDS = 180


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
    settings = load_settings()
    _prove_storage(settings)
    pace = settings.api.calls_per_s
    with server() as client:
        for name in sorted({entry["work_pool"]["name"] for entry in deployments(path)}):
            _say(f"work pool {name}", _ensure_pool(client, name))
            if crash_leftovers:
                _say(f"runs that a dead worker left Running in {name}", f"{_crash_running(client, name)} crashed")
        _say(f"rate limit {LIMIT}", _ensure_limit(client, pace))
        paused = _paused(client)
    _run_prefect(path)
    with server() as client:
        for entry in deployments(path):
            deployment = client.read_deployment_by_name(f"{entry['name']}/{entry['name']}")
            _show_form(client, deployment, entry)
            if entry["name"] in paused:
                client.update_deployment(deployment.id, DeploymentUpdate(paused=True))
                _say(f"deployment {entry['name']}", "still paused")
            _drop_other_schedules(client, deployment, entry)
    for name, done in apply_files([ZOMBIES]):
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


def _ensure_pool(client: SyncPrefectClient, name: str) -> str:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        return "created"
    return "unchanged"


def _ensure_limit(client: SyncPrefectClient, calls_per_s: float) -> str:
    """Set a limit whose slots return at the given rate. One second's worth may be used at once."""
    slots = max(1, round(calls_per_s))
    try:
        found = client.read_global_concurrency_limit_by_name(LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=LIMIT, limit=slots, slot_decay_per_second=calls_per_s)
        )
        return "created"
    if (found.limit, found.slot_decay_per_second) == (slots, calls_per_s):
        return "unchanged"
    client.update_global_concurrency_limit(
        LIMIT, GlobalConcurrencyLimitUpdate(limit=slots, slot_decay_per_second=calls_per_s)
    )
    return "updated"


def _run_prefect(path: Path) -> None:
    """Deploy with Prefect's own command, which reads prefect.yaml."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", path.name]
    done = subprocess.run(  # noqa: S603 - this interpreter, constant arguments
        command, cwd=path.resolve().parent, capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode:
        raise SettingsError(f"prefect deploy failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    for entry in deployments(path):
        _say(f"deployment {entry['name']}", "deployed")


def _paused(client: SyncPrefectClient) -> set[str]:
    """Return the names of paused deployments. Prefect's deploy would start them again, perhaps during an incident."""
    return {deployment.name for deployment in client.read_deployments() if deployment.paused}


def _show_form(client: SyncPrefectClient, deployment: DeploymentResponse, entry: dict[str, Any]) -> None:
    module, _, name = entry["entrypoint"].partition(":")
    schema = form_schema(getattr(import_module(module), name), deployment.parameter_openapi_schema or {})
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
