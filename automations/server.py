"""Opens a client of the Prefect server at PREFECT_API_URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL

from cropline.core.errors import SettingsError


def address() -> str:
    """Return PREFECT_API_URL, which may be empty."""
    return PREFECT_API_URL.value() or ""


def missing_deployments(wanted: Sequence[str]) -> list[str]:
    """Return those of the deployments' names that are not on the server. Raise SettingsError when none answers."""
    with server() as client:
        found = {deployment.name for deployment in client.read_deployments()}
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
