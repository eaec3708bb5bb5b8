"""The short form of ``make chaos``: a few random kills and pauses on each database, a restore and a loss."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tests.integration.chaos import chaos
from tests.integration.fork_server import ForkServer
from tests.integration.oracle import Tally
from tests.integration.state_backup import state_of_kind

_SEED = 7  # a failure repeats; make chaos takes another seed each time


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_random_kills_lose_duplicate_and_orphan_no_crop(
    prefect_server: None, forks: ForkServer, tmp_path: Path, database: str
) -> None:
    with state_of_kind(database, tmp_path) as state:
        result = chaos(4, 32, _SEED, PREFECT_API_URL.value(), forks, tmp_path, state, most_boxes=8)
    assert result == Tally()
