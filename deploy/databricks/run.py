"""Runs a cropline command inside a Databricks job, on the job's own cluster: run.py poll."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession


def main() -> None:
    """Point cropline at the Spark application that is there, then run the command of the arguments."""
    # cropline refuses to guess which application it should use: its setting must name this one's master.
    os.environ["CROPLINE_ENGINE__KIND"] = "spark"
    os.environ["CROPLINE_ENGINE__MASTER"] = SparkSession.builder.getOrCreate().sparkContext.master

    from cropline.cli import main as cropline

    sys.argv = ["cropline", *sys.argv[1:]]
    try:
        cropline()
    except SystemExit as end:
        # Databricks counts any SystemExit as a failure, that of success too.
        if end.code not in (None, 0):
            raise


main()
