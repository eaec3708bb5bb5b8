"""Options that every step shares."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

import tasks

STEPS = {
    id(value): value
    for module in pkgutil.iter_modules(tasks.__path__, "tasks.")
    for value in vars(importlib.import_module(module.name)).values()
    if isinstance(value, Task)
}


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.fn.__module__ + "." + step.fn.__name__)
def test_a_step_never_waits_for_a_slot_and_is_never_answered_from_a_cache(step: Task[..., object]) -> None:
    # Prefect asks the server for a concurrency slot for each tag of a task: seconds at every step.
    assert not step.tags
    assert step.cache_policy == NO_CACHE
