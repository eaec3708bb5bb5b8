"""The Prefect server that PREFECT_API_URL names, asked whether it is there before anything is put on it.

Belongs here: reaching it. Does not: what is put there (deploy.py, apply.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL

from cropline.core.errors import SettingsError


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """A client of it. Raises SettingsError when none is named, where Prefect would start one that goes with us, or none answers."""
    url = PREFECT_API_URL.value()
    if not url:
        raise SettingsError("PREFECT_API_URL: no Prefect server is named; give its address, http(s)://host[:port]/api")
    with get_client(sync_client=True) as client:
        failure = client.api_healthcheck()
        if failure is not None:
            raise SettingsError(f"PREFECT_API_URL: no Prefect server answers at {url} ({type(failure).__name__})")
        yield client
