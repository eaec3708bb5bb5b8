"""Functions that run in several processes started at the same time. The module imports little."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

from cropline.config.state import StateSettings
from cropline.core.errors import StaleLease
from cropline.state import Batch, ImageState, State, moved_out
from tests.contract.state.build import candidate, counts, outcomes, registration


def run_together(act: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the results of ``act`` for each of the arguments, each in a separate process, all started together."""
    # One server process imports everything once; its forks begin at once and have no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    barrier = context.Barrier(len(arguments))
    answers = context.SimpleQueue()
    processes = [
        context.Process(target=_run, args=(act, number, given, barrier, answers))
        for number, given in enumerate(arguments)
    ]
    for process in processes:
        process.start()
    told = dict(answers.get() for _ in processes)
    for process in processes:
        process.join()
    failed = {number: error for number, (error, _) in told.items() if error}
    if failed:
        raise AssertionError(f"processes failed: {failed}")
    return [told[number][1] for number in range(len(arguments))]


def _run(act: Callable[..., Any], number: int, given: tuple[Any, ...], barrier: Barrier, answers: Any) -> None:
    try:
        barrier.wait(60)
        answer = (None, act(*given))
    except BaseException as error:  # noqa: BLE001 - sent to the test, which fails
        answer = (f"{type(error).__name__}: {error}", None)
    answers.put((number, answer))


def run_killed(act: Callable[..., Any], *given: Any) -> int | None:
    """Run ``act`` in a process that kills itself. Return its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=act, args=given)
    process.start()
    process.join(120)
    return process.exitcode


def die_moving_photos(url: str, function: str, when: str, items: Sequence[ImageState]) -> None:
    """Move the photos out of the table, or back for ``drop``, and die before or after a function of moved_out."""
    real = getattr(moved_out, function)

    def killed(*given: Any, **named: Any) -> None:
        if when == "after":
            real(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(moved_out, function, killed)
    with State.open(StateSettings.model_validate({"url": url})) as state:
        move = state.bring_back if function == "drop" else state.move_out
        move("cams", items)


def open_and_register(url: str, name: str) -> None:
    """Open a database that may not have its tables yet, and use it."""
    with State.open(StateSettings.model_validate({"url": url})) as state:
        state.register(registration([candidate(name)], manifest=name))


@dataclass(frozen=True)
class Take:
    """One work item that a process held or committed."""

    batch_id: str
    image_id: str
    profile: str
    fingerprint: str


def takes(batch: Batch) -> list[Take]:
    """Return the work items of a batch."""
    return [
        Take(batch.batch_id, image["image_id"], work["profile"], work["fingerprint"])
        for image in batch.images.to_pylist()
        for work in image["work"]
    ]


def drain(url: str, limit: int) -> list[Take]:
    """Claim and commit until nothing is left. Return what it committed."""
    done: list[Take] = []
    with State.open(StateSettings.model_validate({"url": url})) as state:
        while (batch := state.claim(limit=limit, owner="race")) is not None:
            done += commit(state, batch)
    return done


def commit(state: State, batch: Batch) -> list[Take]:
    """Process a batch as a flow would: a heartbeat, then the commit."""
    state.renew(batch)
    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
    return takes(batch)


def drain_and_die(url: str, limit: int) -> list[Take]:
    """Claim a batch whose lease ends at once, and stop. Return what it held."""
    state = State.open(StateSettings.model_validate({"url": url, "lease_s": 0.001}))
    batch = state.claim(limit=limit, owner="doomed")
    assert batch is not None
    return takes(batch)


def poll_and_drain(url: str, images: int, seed: int, versions: int) -> list[Take]:
    """Register versions of the same images in a random order, and process pending work in between."""
    rng, done = random.Random(seed), []
    with State.open(StateSettings.model_validate({"url": url})) as state:
        for version in range(1, versions + 1):
            rows = [candidate(f"i{n:05}", version=f"v{version}", at=version) for n in range(images)]
            rng.shuffle(rows)
            state.register(registration(rows, manifest=f"manifests/{seed}-v{version}.parquet"))
            batch = state.claim(limit=rng.randint(1, images), owner=f"race {seed}")
            if batch is not None:
                done += commit(state, batch)
    return done


def work_badly(url: str, seed: int, steps: int) -> list[Take]:
    """Process work with failures: photos fail, leases end early, runs release batches. Return what it committed as ok."""
    rng, done = random.Random(seed), []
    settings = {"url": url, "lease_s": 0.05, "backoff_s": 0.01, "backoff_cap_s": 0.02, "max_attempts": 2}
    with State.open(StateSettings.model_validate(settings)) as state:
        for _ in range(steps):
            batch = state.claim(limit=rng.randint(1, 30), owner=f"bad day {seed}")
            if batch is None:
                continue
            try:
                if rng.random() < 0.2:
                    state.release(batch, "cancelled")
                    continue
                failing = {name: "timeout" for name in batch.images["image_id"].to_pylist() if rng.random() < 0.3}
                told = outcomes(batch, reasons=failing)
                state.commit(batch, told, counts=counts(batch), catalogue_version=1)
            except StaleLease:
                continue  # another process took it over and commits it
            done += [take for take in takes(batch) if take.image_id not in failing]
    return done


def replay(url: str, seed: int, steps: int) -> list[Take]:
    """Requeue failed work again and again while other processes work, as an operator would."""
    with State.open(StateSettings.model_validate({"url": url})) as state:
        for _ in range(steps):
            state.requeue(states=("failed", "dead"))
    return []


def act(name: str, *arguments: Any) -> list[Take]:
    """Call one of the functions above by its name, for processes that do different things at the same time."""
    acts: dict[str, Callable[..., list[Take]]] = {
        "poll and drain": poll_and_drain,
        "work badly": work_badly,
        "replay": replay,
    }
    return acts[name](*arguments)
