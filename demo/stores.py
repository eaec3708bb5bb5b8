"""Writes the stores table as a Parquet file, which the crop script joins."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from demo.world import World


def write_stores(path: Path, seed: int = 7, stores: int = 6) -> int:
    """Write one row per store: store_id, store_name, city, region, store_format, all text. Return the row count."""
    rows = [
        {
            "store_id": store.store_id,
            "store_name": store.name,
            "city": store.city,
            "region": store.region,
            "store_format": store.format,
        }
        for store in World(seed, stores, photos=0).stores
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return len(rows)
