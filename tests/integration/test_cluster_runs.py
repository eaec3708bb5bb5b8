"""A run on a real Spark cluster that is ended in a batch: the next run finishes it, and the end state is undisturbed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.contract.spark_servers import eventually, python_without_cropline, standalone_cluster
from tests.integration.conftest import Workspace
from tests.integration.killing import POLL, assert_same, run_until_nothing_waits
from tests.integration.oracle import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]


def test_a_driver_that_gets_sigterm_in_a_batch_loses_nothing(
    disturbed: Workspace, undisturbed: Ledger, tmp_path: Path
) -> None:
    from fugue_jobs.engines.run import stop_engines

    (tmp_path / "cluster").mkdir()
    python = python_without_cropline(tmp_path / "venv")
    with standalone_cluster(tmp_path / "cluster", python) as cluster:
        disturbed.set(
            ENGINE__KIND="spark",
            ENGINE__MASTER=cluster.master,
            ENGINE__PARTITIONS="2",
            ENGINE__CONF='{"spark.sql.shuffle.partitions": "2"}',
            ENGINE__SPARK__PYTHON=str(python),
            ENGINE__SPARK__MAX_EXECUTORS="2",
        )
        ended = disturbed.start(POLL)
        try:
            eventually("an executor works for it", lambda: cluster.executors() > 0, 600)
            ended.send_signal(signal.SIGTERM)
            assert ended.wait(300) != 0
        finally:
            ended.close()
        eventually("the cluster is free", lambda: cluster.executors() == 0, 60)
        run_until_nothing_waits(disturbed)
        stop_engines()
    assert_same(disturbed, undisturbed)
