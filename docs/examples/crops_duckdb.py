"""Count crops by store and day with DuckDB, and read the least sharp ones. Usage: crops_duckdb.py STORAGE_FOLDER"""

import sys
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

import cropline

root = Path(sys.argv[1]).resolve()
crops = pa.table(DeltaTable(str(root / "catalogue")).scan())  # or, with DuckDB's extension: delta_scan('...')
print(duckdb.sql("SELECT store_id, captured_date, count(*) AS crops FROM crops WHERE status = 'written' GROUP BY ALL"))

worst = duckdb.sql("SELECT * FROM crops WHERE status = 'written' ORDER BY sharpness LIMIT 3").to_arrow_table()
for row in worst.to_pylist():
    # A separate object or a range of a pack: open_crop reads both.
    print(row["key"], len(cropline.open_crop(row, root.as_uri()).read()), "bytes")
