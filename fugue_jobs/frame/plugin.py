"""The entry point ``fugue.plugins``: the transformer ``cropline_crop``, and Spark Connect on Spark 4.

Their implementations are imported on first use.
"""

from typing import Any

from fugue.execution.factory import parse_execution_engine
from fugue.extensions.transformer.convert import parse_transformer

NAME = "cropline_crop"


def _is_ours(named: Any, *_: Any, **__: Any) -> bool:
    return isinstance(named, str) and named == NAME


def _is_connect(engine: Any, *_: Any, **__: Any) -> bool:
    return type(engine).__module__.startswith("pyspark.sql.connect.") and type(engine).__name__ == "SparkSession"


@parse_transformer.candidate(_is_ours)
def _transformer(named: Any) -> Any:  # noqa: ARG001 - Fugue's signature
    from fugue_jobs.frame.transformer import CropTransformer

    return CropTransformer()


@parse_execution_engine.candidate(_is_connect, priority=2)
def _connect(engine: Any, conf: Any, **_: Any) -> Any:  # noqa: ARG001 - Fugue's signature
    """Return our engine: Fugue's treats a Connect session of Spark 4 as a classic one."""
    from fugue_jobs.engines.spark_connect import ConnectEngine

    return ConnectEngine(engine)
