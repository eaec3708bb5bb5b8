"""One rate limit for the image API, shared by all flow runs: a global limit on the Prefect server.

A deploy sets the limit (automations/). A server without it, such as that of a flow run on its own, allows every call.
"""

from __future__ import annotations

from collections.abc import Callable

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import rate_limit
from prefect.exceptions import ObjectNotFound

LIMIT = "cropline-image-api"


def leave(limited: bool | None = None) -> Callable[[], None]:
    """Return a function to call before each request: it blocks until the limit allows one.

    ``limited``: is_rate_limited's result.
    """
    if is_rate_limited() if limited is None else limited:
        return lambda: rate_limit(LIMIT)
    return lambda: None


def is_rate_limited() -> bool:
    """Whether the server has the limit. Asked once per poll: Prefect would warn of a missing one at every page."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return False
    return True
