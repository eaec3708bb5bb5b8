"""Read the current crops as a Spark DataFrame, and pictures on the workers. Usage: crops_spark.py STORAGE_FOLDER

A cluster with Delta's own connector reads the table directly: spark.read.format("delta").load(...).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession

import cropline

root = Path(sys.argv[1]).resolve()
address = root.as_uri()


def sizes(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yield the size of each crop in bytes; a model would go here."""
    for frame in frames:
        data = [cropline.open_crop(row, address).read() for row in frame.to_dict("records")]
        yield pd.DataFrame({"key": frame["key"], "size": [len(picture) for picture in data]})


spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
columns = ["key", "shard", "offset", "bytes", "captured_date"]
crops = cropline.read_crops("status = 'written'", columns=columns, storage=address, frame=spark)
crops.groupBy("captured_date").count().show()
crops.mapInPandas(sizes, "key string, size long").orderBy("key").show(3, truncate=False)
spark.stop()
