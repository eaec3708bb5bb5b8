"""Opens a client of the Prefect server at PREFECT_API_URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import DeploymentSort
from prefect.settings import PREFECT_API_URL

from cropline.core.errors import SettingsError

_PAGE = 200


def address() -> str:
    """Return PREFECT_API_URL, which may be empty."""
    return PREFECT_API_URL.value() or ""


def missing_deployments(wanted: Sequence[str]) -> list[str]:
    """Return those of the deployments' names that are not on the server. Raise SettingsError when none answers."""
    with server() as client:
        found = {deployment.name for deployment in all_deployments(client)}
    return [name for name in wanted if name not in found]


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """Yield a client of the server.

    Raise SettingsError when PREFECT_API_URL is empty (Prefect would start a server that ends with this process), or
    when no server answers.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise SettingsError(
            "PREFECT_API_URL: it is not set; give the Prefect server's address, http(s)://host[:port]/api"
        )
    with get_client(sync_client=True) as client:
        failure = client.api_healthcheck()
        if failure is not None:
            raise SettingsError(f"PREFECT_API_URL: no Prefect server answers at {url} ({type(failure).__name__})")
        yield client


def all_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Return the deployments of a server, of which one request returns at most 200."""
    found: list[DeploymentResponse] = []
    while part := client.read_deployments(sort=DeploymentSort.NAME_ASC, limit=_PAGE, offset=len(found)):
        found += part
        if len(part) < _PAGE:
            break
    return found
