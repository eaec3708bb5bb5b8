"""Waiting for work that runs elsewhere, and ending it."""

import sys
import threading
from collections.abc import Iterator

import pytest

from fugue_jobs.engines import clusters
from fugue_jobs.engines.clusters import cause, end_within, in_own_thread


@pytest.fixture
def threads_that_alternate() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_that_alternate")
def test_work_that_ends_as_its_status_call_times_out_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CHECK_S", 0)
    assert [in_own_thread(lambda number=number: number, lambda: None) for number in range(3_000)] == list(range(3_000))  # type: ignore[misc]


def test_a_timeout_of_the_work_is_raised_as_it_is() -> None:
    def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        in_own_thread(late, lambda: None)


def test_a_cluster_is_released_even_if_its_job_cannot_be_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    left = threading.Event()

    def cancel() -> None:
        raise ConnectionError("the scheduler is gone")

    end_within(5, cancel, left.set)
    assert left.is_set()
    assert caplog.messages == ["the cluster's job could not be ended: the scheduler is gone"]


# Spark 4.3's message for CROPLINE_ENGINE__SPARK__PYTHON=/nope/python, without most of its frames.
AWAITED = """An error occurred while calling o51.getResult.
: org.apache.spark.SparkException: Exception thrown in awaitResult:
\tat org.apache.spark.util.SparkThreadUtils$.awaitResult(SparkThreadUtils.scala:70)
Caused by: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 0.0 failed 1 times, most recent \
failure: Lost task 0.0 in stage 0.0 (TID 0) (192.0.2.2 executor driver): java.io.IOException: Cannot run program "/nope/python": \
error=2, No such file or directory
\tat java.base/java.lang.ProcessBuilder.start(ProcessBuilder.java:1143)
Caused by: java.io.IOException: error=2, No such file or directory
"""


def test_the_cause_of_a_failed_spark_job_is_reported() -> None:
    assert 'Cannot run program "/nope/python": error=2' in cause(RuntimeError(AWAITED))


LOST_RESULT = """An error occurred while calling o56.getResult.
: org.apache.spark.SparkException: Exception thrown in awaitResult:
Caused by: org.apache.spark.SparkException: Job aborted due to stage failure: Lost task 0.0: TaskResultLost (result lost \
from block manager)
"""


def test_a_result_that_is_too_large_names_its_setting() -> None:
    told = cause(RuntimeError(LOST_RESULT))
    assert told.startswith("org.apache.spark.SparkException: Job aborted")
    assert "spark.driver.maxResultSize of CROPLINE_ENGINE__CONF" in told


def test_the_cause_behind_an_error_that_says_only_where_it_was_is_told() -> None:
    error = RuntimeError("Error while instantiating 'SessionStateBuilder':")
    error._cause = ValueError("spark.sql.x should be int, but was many")  # type: ignore[attr-defined]
    assert cause(error) == "Error while instantiating 'SessionStateBuilder': spark.sql.x should be int, but was many"


# What Spark Connect 4.3 raised when its server's heap was full.
FULL_SERVER = """<_MultiThreadedRendezvous of RPC that terminated with:
\tstatus = StatusCode.UNKNOWN
\tdetails = "Java heap space"
\tdebug_error_string = "UNKNOWN:Java heap space"
>"""


def test_a_connect_server_without_memory_is_told_with_its_setting() -> None:
    assert cause(RuntimeError(FULL_SERVER)) == (
        "Java heap space (the server's JVM ran out of memory: start it with a larger spark.driver.memory, or make batches "
        "and tables smaller)"
    )


def test_too_little_memory_for_a_driver_names_its_setting() -> None:
    told = cause(
        RuntimeError("[INVALID_DRIVER_MEMORY.SYSTEM_MEMORY] System memory 405471232 must be at least 471859200.")
    )
    assert told.endswith("(see spark.driver.memory and spark.executor.memory in CROPLINE_ENGINE__CONF)")


# Spark 4.3, when executors were killed again and again.
LOST_INPUT = """Job aborted due to stage failure: ResultStage 8 (toArrow at run.py:280) has failed the maximum allowable number \
of times: 4. Most recent failure reason: org.apache.spark.shuffle.MetadataFetchFailedException: Missing an output location"""


def test_executors_that_are_lost_again_and_again_are_told() -> None:
    told = cause(RuntimeError(LOST_INPUT))
    assert told.startswith("Job aborted due to stage failure: ResultStage 8")
    assert "exit code 137 in the cluster's log), give them more: spark.executor.memory" in told
