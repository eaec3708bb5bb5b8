"""One rate limit for each image API, shared by all flow runs: a global limit on the Prefect server.

A deploy sets the limit (automations/). A server without it, such as that of a flow run on its own, allows every call.
"""

from __future__ import annotations

from collections.abc import Callable

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import rate_limit
from prefect.exceptions import ObjectNotFound

from cropline.config.places import normal_name
from cropline.config.settings import Settings

LIMIT = "cropline-image-api"


def limit_of(settings: Settings) -> str:
    """Return the name of one source's limit; several sources have one each."""
    return settings.named(f"{LIMIT}-{normal_name(settings.api.source)}" if settings.sources else LIMIT)


def leave(limited: bool | None = None, *, name: str = LIMIT) -> Callable[[], None]:
    """Return a function to call before each request: it blocks until the limit allows one.

    ``limited``: is_rate_limited's result.
    """
    if is_rate_limited(name) if limited is None else limited:
        return lambda: rate_limit(name)
    return lambda: None


def is_rate_limited(name: str = LIMIT) -> bool:
    """Whether the server has the limit. Asked once per poll: Prefect would warn of a missing one at every page."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return False
    return True
