"""The short form of ``make chaos``: a few random kills, counted from outside."""

from __future__ import annotations

import time
from pathlib import Path

from prefect.settings import PREFECT_API_URL

from tests.integration.chaos import Tally, chaos


def test_random_kills_lose_double_and_orphan_nothing(prefect_server: None, tmp_path: Path) -> None:
    result = chaos(kills=6, images=60, seed=int(time.time()), server=PREFECT_API_URL.value(), folder=tmp_path)
    assert result == Tally(lost=0, duplicated=0, orphaned=0, unfinished=0)
