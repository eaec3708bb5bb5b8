"""The native engine keeps its database, and each statement sees its own frames only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import duckdb
import fugue.api as fa
import pandas as pd
import pytest

from fugue_jobs.engines.native import KeptNativeEngine

JOIN = "SELECT a.x, b.y FROM a LEFT JOIN b ON a.x = b.x"


def joined(start: int) -> list[list[object]]:
    a = pd.DataFrame({"x": [start, start + 1]})
    b = pd.DataFrame({"x": [start], "y": [f"of {start}"]})
    return fa.as_array(fa.fugue_sql(JOIN, a=a, b=b, engine=KeptNativeEngine(), as_fugue=True))


def test_a_database_is_opened_once_for_all_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    joined(0)
    monkeypatch.setattr(duckdb, "connect", lambda *_, **__: pytest.fail("a second database"))
    assert sorted(joined(5), key=str) == [[5, "of 5"], [6, None]]


def test_statements_of_several_threads_see_their_own_frames() -> None:
    starts = range(0, 40, 10)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(joined, starts))
    assert [sorted(rows, key=str) for rows in found] == [[[n, f"of {n}"], [n + 1, None]] for n in starts]
