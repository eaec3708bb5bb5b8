"""The conf of a Spark application of ours, and Spark's long errors reduced to one line."""

from pathlib import Path
from typing import Any

import pytest

from cropline.config.settings import EngineSettings
from cropline.core.errors import SettingsError
from cropline.core.store_spec import StoreSpec
from fugue_jobs.engines.clusters import cause
from fugue_jobs.engines.emr_job import _job
from fugue_jobs.engines.spark import options


def told(**settings: Any) -> dict[str, str]:
    return options(EngineSettings.model_validate({"kind": "spark", "master": "spark://h:7077"} | settings), 7)


def test_on_a_cluster_executors_come_from_none_and_stragglers_are_run_twice() -> None:
    wanted = {
        "spark.speculation": "true",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "0",
        "spark.dynamicAllocation.maxExecutors": "7",
        "spark.dynamicAllocation.executorIdleTimeout": "60s",
        "spark.decommission.enabled": "true",
    }
    assert wanted.items() <= told().items()


def test_without_autoscaling_the_same_number_of_cores_is_taken_for_good() -> None:
    fixed = told(spark={"autoscale": False, "executor_cores": 4})
    assert fixed["spark.cores.max"] == "28"
    assert not any("dynamicAllocation" in name for name in fixed)


def test_the_users_conf_wins_and_goes_through() -> None:
    conf = {"spark.speculation": "false", "spark.hadoop.fs.x": "y"}
    assert conf.items() <= told(conf=conf).items()


def test_in_process_nothing_is_scaled() -> None:
    assert not any("dynamicAllocation" in name for name in told(master="local[2]"))


WORKER = """An error occurred while calling o123.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 3.0 failed 4 times, most recent failure:
  File "/x/fugue_jobs/manifests.py", line 90, in _read_parts
cropline.core.errors.ManifestError: manifest manifests/gone.parquet: cannot read s3://b/gone.parquet?X-Amz-Signature=canary: NotFoundError

\tat org.apache.spark.api.python.BasePythonRunner
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (WORKER, "manifest manifests/gone.parquet: cannot read s3://b/gone.parquet?***"),
        (
            "An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.\n: java.lang.Oops: no\n\tat x",
            "java.lang.Oops: no",
        ),
        (
            "An exception was thrown from the Python worker:\nTraceback (most recent call last):\n  File x\n"
            "ModuleNotFoundError: No module named 'PIL'\n\njava.lang.Oops: no",
            "ModuleNotFoundError: No module named 'PIL'",
        ),
        ("[TABLE_NOT_FOUND] none\nJVM stacktrace", "[TABLE_NOT_FOUND] none"),
        ("", "RuntimeError"),
    ],
)
def test_the_cause_is_told_in_one_line_without_secrets(text: str, told: str) -> None:
    assert cause(RuntimeError(text)).startswith(told)
    assert "canary" not in cause(RuntimeError(text))


def test_a_file_that_is_not_on_the_machine_of_an_emr_job_is_named(tmp_path: Path) -> None:
    fetch = {"ca_file": str(tmp_path / "gone.pem")}
    told = {"fetch": fetch, "pictures": {}, "processes": 0, "packed": [], "batch": ""}
    with pytest.raises(SettingsError, match=f"^CROPLINE_FETCH__CA_FILE: there is no file {tmp_path}/gone.pem$"):
        _job(StoreSpec("s3://bucket"), told)
