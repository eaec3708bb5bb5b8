"""What Spark says in pages is told in a line."""

import pytest

from fugue_jobs.spark import cause

WORKER = """An error occurred while calling o123.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 3.0 failed 4 times, most recent failure:
  File "/x/fugue_jobs/manifests.py", line 90, in _read_parts
cropline.errors.ManifestError: manifest manifests/gone.parquet: cannot read s3://b/gone.parquet?X-Amz-Signature=canary: NotFoundError

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
        ("[TABLE_NOT_FOUND] none\nJVM stacktrace", "[TABLE_NOT_FOUND] none"),
        ("", "RuntimeError"),
    ],
)
def test_the_cause_is_told_in_one_line_without_secrets(text: str, told: str) -> None:
    assert cause(RuntimeError(text)).startswith(told)
    assert "canary" not in cause(RuntimeError(text))
