"""Options of all tasks in Prefect: no caching, and which failures are retried at once."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from cropline.core.errors import CatalogueError, StaleLease, StateError, StorageError


async def _may_pass(_task: Task[Any, Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Whether the failure is a store's or a database's, and may pass. A lost lease or bad data is not retried."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, StateError | StorageError | CatalogueError) and not isinstance(error, StaleLease)


# Every step is idempotent, so a retry is safe. It covers outages of seconds; the next run covers longer ones.
STEP: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [1, 5],
    "retry_condition_fn": _may_pass,
}
