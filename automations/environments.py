"""Keeps environments (CROPLINE_ENVIRONMENT) apart on one Prefect server: every name on the server begins with theirs.

The files know one environment. Here their deployments and automations get the names, tags and events of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.client.orchestration import SyncPrefectClient

from automations.server import all_deployments
from cropline.config.settings import Settings
from cropline.core.errors import SettingsError

TAG = "cropline"


def for_environment(entries: Sequence[dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """Return the deployments with this environment's names, tags, events and pool, and with the image in the pool's way."""
    made = []
    for entry in entries:
        tags = [settings.named(tag) if tag == TAG else tag for tag in entry.get("tags") or ()]
        pool = entry["work_pool"]
        variables = dict(pool.get("job_variables") or {})
        if settings.image:
            variables["image"] = settings.image
        own = {
            "name": settings.named(entry["name"]),
            "tags": tags,
            "work_pool": pool | {"name": settings.named(pool["name"]), "job_variables": variables},
        }
        if "triggers" in entry:
            own["triggers"] = in_environment(entry["triggers"], settings)
        made.append(entry | own)
    return made


def in_environment(value: Any, settings: Settings) -> Any:
    """Return a part of a file with this environment's tags, events and names of automations."""
    if isinstance(value, dict):
        return {name: in_environment(entry, settings) for name, entry in value.items()}
    if isinstance(value, list):
        return [in_environment(entry, settings) for entry in value]
    if not isinstance(value, str) or not settings.environment:
        return value
    if value == f"prefect.tag.{TAG}":
        return f"prefect.tag.{settings.named(TAG)}"
    for kind in ("source", "camera"):
        value = value.replace(f"cropline.{kind}.", settings.resource(kind, ""))
    return f"{settings.environment} {value}" if value.startswith(("cropline: ", "cropline alert: ")) else value


def refuse_other_pools(client: SyncPrefectClient, entries: Sequence[dict[str, Any]]) -> None:
    """Raise SettingsError for a deployment that is in another pool: another environment owns it.

    Prefect would move it without a word, and the workers of its pool would get no more runs.
    """
    wanted = {(entry["entrypoint"], entry["name"]): entry["work_pool"]["name"] for entry in entries}
    for deployment in all_deployments(client):
        pool = wanted.get((deployment.entrypoint or "", deployment.name))
        if pool is not None and deployment.work_pool_name not in (None, pool):
            raise SettingsError(
                f"the deployment {deployment.name} is in the work pool {deployment.work_pool_name}, not {pool}: another "
                "environment owns it. Set CROPLINE_ENVIRONMENT, or delete the deployment first if it may move. Nothing was "
                "changed"
            )
