"""One rate limit for the image API, shared by every flow run: a global limit on the Prefect server.

Setting the limit is automations/'s, on a deploy. A server that has no such limit, as when a flow runs on its own, lets
every call pass.
"""

from __future__ import annotations

from collections.abc import Callable

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import rate_limit
from prefect.exceptions import ObjectNotFound

LIMIT = "cropline-image-api"


def leave(limited: bool | None = None) -> Callable[[], None]:
    """To be called before each request: returns when the limit allows one. ``limited``: what is_rate_limited said before."""
    if is_rate_limited() if limited is None else limited:
        return lambda: rate_limit(LIMIT)
    return lambda: None


def is_rate_limited() -> bool:
    """Whether the server has the limit. Asked once a poll: Prefect would warn of a missing one at every page."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return False
    return True
