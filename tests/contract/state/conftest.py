"""Every test here runs on SQLite and on PostgreSQL; both are real."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cropline.config.state import StateSettings
from cropline.state import State
from tests.contract.state.build import Clock, Look
from tests.contract.state.servers import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., State]


@pytest.fixture
def open_state(url: str, clock: Clock) -> Iterator[Open]:
    """Open the database as another process would, with settings that the test chooses."""
    with ExitStack() as stack:

        def opened(**settings: Any) -> State:
            return stack.enter_context(State.open(StateSettings.model_validate({"url": url} | settings), clock=clock))

        yield opened


@pytest.fixture
def state(open_state: Open) -> State:
    return open_state()


@pytest.fixture
def look(url: str, state: State) -> Look:
    return Look(url)
