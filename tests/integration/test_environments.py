"""Staging and production on one real Prefect server: nothing collides, and a deploy takes over nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from automations.deploy import deploy
from cropline.core.errors import SettingsError

# Each deploy starts Prefect's own command. The names of environments are tested in tests/unit/automations, too.
pytestmark = pytest.mark.slow

PRODUCTION, STAGING = "production-test", "staging-test"
_MOVING = {"updated", "created", "last_polled", "status", "id"}


@pytest.fixture(scope="module")
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> pytest.MonkeyPatch:
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())  # of Prefect's own command, in another process
    monkeypatch.setenv("CROPLINE_API__URL", "http://127.0.0.1:1")
    monkeypatch.setenv("CROPLINE_STORAGE__URL", (tmp_path / "output").as_uri())
    return monkeypatch


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A file of two deployments: one with a schedule, one with an event that starts it."""
    import yaml

    whole = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
    kept = [entry for entry in whole["deployments"] if entry["name"] in ("poll", "process")]
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump(whole | {"deployments": kept}))
    return path


def still(value: Any) -> Any:
    """Return the value without what changes by itself."""
    if isinstance(value, dict):
        return {name: still(entry) for name, entry in value.items() if name not in _MOVING}
    return sorted((still(entry) for entry in value), key=repr) if isinstance(value, list) else value


def on_server(client: SyncPrefectClient) -> dict[str, Any]:
    """Return everything that a deploy puts on the server, by kind and name."""
    ask = {
        "deployments": "/deployments/filter", "automations": "/automations/filter", "pools": "/work_pools/filter",
        "limits": "/v2/concurrency_limits/filter",
    }  # fmt: skip
    found = {kind: client._client.post(path, json={}).json() for kind, path in ask.items()}
    return {kind: {entry["name"]: still(entry) for entry in entries} for kind, entries in found.items()}


def of(found: dict[str, Any], environment: str) -> dict[str, Any]:
    return {
        kind: {name: entry for name, entry in entries.items() if name.startswith(environment)}
        for kind, entries in found.items()
    }


def test_two_environments_live_on_one_server_and_neither_takes_over_the_other(
    client: SyncPrefectClient, settings: pytest.MonkeyPatch, two: Path
) -> None:
    before = on_server(client)
    settings.setenv("CROPLINE_ENVIRONMENT", PRODUCTION)
    deploy(two)
    production = of(on_server(client), PRODUCTION)
    settings.setenv("CROPLINE_ENVIRONMENT", STAGING)
    deploy(two)
    both = on_server(client)

    assert of(both, PRODUCTION) == production, "staging changed nothing of production"
    staging = of(both, STAGING)
    for kind, entries in production.items():
        assert entries, kind
        names = {name.removeprefix(PRODUCTION) for name in entries}
        assert {name.removeprefix(STAGING) for name in staging[kind]} == names, kind
    for environment, held in ((PRODUCTION, production), (STAGING, staging)):
        text = json.dumps(held)
        assert f"cropline.{environment}.source." in text
        assert {entry["work_pool_name"] for entry in held["deployments"].values()} == {f"{environment}-cropline"}
        assert all(entry["tags"] == [f"{environment}-cropline"] for entry in held["deployments"].values())
    assert PRODUCTION not in json.dumps(staging)
    for kind, entries in before.items():
        assert {name: both[kind].get(name) for name in entries} == entries, "others keep what they had"

    # Somebody gives staging's deployments to production's pool, as a file of before there were environments did.
    settings.setenv("CROPLINE_ENVIRONMENT", "")
    two.write_text(two.read_text().replace("name: poll", f"name: {STAGING}-poll"))
    with pytest.raises(
        SettingsError, match=f"{STAGING}-poll is in the work pool {STAGING}-cropline, not .*Nothing was changed"
    ):
        deploy(two)
    assert on_server(client) == both, "nothing half done"
