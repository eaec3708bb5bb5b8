"""How our tasks behave in Prefect, said once: no caching, and which failures are worth another try at once."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from cropline.core.errors import CatalogueError, StaleLease, StateError, StorageError


async def _may_pass(_task: Task[Any, Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """A store or database that stumbled; not a lost lease, and nothing that is our own or the data's fault."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, StateError | StorageError | CatalogueError) and not isinstance(error, StaleLease)


# Every step is idempotent, so a second try is safe; it is for a stumble of seconds, the next run is for the rest.
STEP: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [1, 5],
    "retry_condition_fn": _may_pass,
}
