"""Near-duplicates among embedded crops, by DuckDB: python near_duplicates.py <storage> [<similarity>].

It compares crops with the same label, and prints the pairs, most alike first.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

import cropline

PAIRS = """
    WITH embedded AS (
        SELECT key, label, embedding::FLOAT[256] AS embedding FROM crops WHERE embedding IS NOT NULL
    )
    SELECT a.key, b.key, round(array_cosine_similarity(a.embedding, b.embedding), 4) AS alike
      FROM embedded a JOIN embedded b ON a.label = b.label AND a.key < b.key
     WHERE array_cosine_similarity(a.embedding, b.embedding) >= ?
     ORDER BY alike DESC, a.key, b.key
"""


def near_duplicates(crops: object, similarity: float) -> list[tuple[str, str, float]]:
    """Return (key, key, similarity) of the pairs. ``crops``: an Arrow table with key, label and embedding."""
    with duckdb.connect() as database:
        database.register("crops", crops)
        return database.execute(PAIRS, [similarity]).fetchall()


if __name__ == "__main__":
    storage, similarity = sys.argv[1], float((*sys.argv[2:], "0.98")[0])
    url = storage if "://" in storage else Path(storage).absolute().as_uri()
    crops = cropline.read_crops("status = 'written'", columns=["key", "label", "embedding"], frame="arrow", storage=url)
    for one, other, alike in near_duplicates(crops, similarity):
        print(alike, one, other)
