"""One rate limit for the image API, shared by every flow run: a global limit on the Prefect server.

Belongs here: asking for leave before each call. Does not: setting the limit (automations/ does, on a deploy). A server
that has no such limit, as when a flow runs on its own, lets every call pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import rate_limit
from prefect.exceptions import ObjectNotFound

T = TypeVar("T")

LIMIT = "cropline-image-api"


def paced(pages: Iterable[T], limited: bool | None = None) -> Iterator[T]:
    """The pages, each asked for only when the rate limit gives leave. ``limited``: what is_limited said before."""
    limited = is_limited() if limited is None else limited
    iterator = iter(pages)
    while True:
        if limited:
            rate_limit(LIMIT)
        try:
            yield next(iterator)
        except StopIteration:
            return


def is_limited() -> bool:
    """Whether the server has the limit. Asked once a poll: Prefect would warn of a missing one at every page."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return False
    return True
