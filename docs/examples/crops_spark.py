"""Read Delta's current files as a Spark DataFrame, and pictures on the workers. Usage: crops_spark.py STORAGE_FOLDER

A cluster with Delta's own connector reads the table directly: spark.read.format("delta").load(...).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable
from pyspark.sql import SparkSession

root = Path(sys.argv[1]).resolve()
address = root.as_uri()


def sizes(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yield the size of each crop in bytes; a model would go here."""
    import cropline

    for frame in frames:
        data = [cropline.open_crop(row, address).read() for row in frame.to_dict("records")]
        yield pd.DataFrame({"key": frame["key"], "size": [len(picture) for picture in data]})


spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
crops = spark.read.parquet(*DeltaTable(str(root / "catalogue")).file_uris()).where("status = 'written'")
columns = crops.select("key", "shard", "offset", "bytes")
columns.mapInPandas(sizes, "key string, size long").orderBy("key").show(3, truncate=False)
spark.stop()
