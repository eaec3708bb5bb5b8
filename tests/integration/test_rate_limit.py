"""The rate limit of the image API: one for all runs, kept by the Prefect server."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

from tasks.rate_limit import LIMIT, is_rate_limited, leave

CALLS_PER_S, EACH = 5.0, 5


@pytest.fixture
def limit(prefect_server: None) -> object:
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=LIMIT, limit=1, slot_decay_per_second=CALLS_PER_S)
        )
        yield LIMIT
        client.delete_global_concurrency_limit_by_name(LIMIT)


def _calls() -> list[float]:
    may_call = leave()
    moments = []
    for _ in range(EACH):
        may_call()
        moments.append(time.monotonic())
    return moments


def test_two_runs_share_the_calls_a_second_that_one_may_make(limit: object) -> None:
    with ThreadPoolExecutor(2) as runs:
        moments = sorted(chain(*runs.map(lambda _: _calls(), range(2))))
    # The first call is free. The limit is an upper bound on the pace, so a slow machine cannot break it.
    assert moments[-1] - moments[0] >= (len(moments) - 2) / CALLS_PER_S


def test_without_the_limit_on_the_server_every_call_passes(prefect_server: None) -> None:
    assert not is_rate_limited()
    may_call = leave()
    for _ in range(3):
        may_call()
