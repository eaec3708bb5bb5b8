"""Maps quarantined rows again: from their raw items, by the current mapping."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.backfill.listings import Listing
from cropline.core.schemas import MANIFEST
from cropline.intake import manifest

if TYPE_CHECKING:
    from cropline.config.settings import ApiSettings
    from cropline.core.store_spec import StoreSpec


def remapped(
    rows: Mapping[str, Collection[int]], api: ApiSettings, spec: StoreSpec, folder: Path
) -> tuple[list[Listing], int]:
    """Return one listing below ``folder`` per landed manifest, and how many rows are not mapped again.

    These are rows without a raw item, and with GROUP_BY_IMAGE all rows: an item holds one box there, and only
    the API has all items of a photo. Raise ManifestError.
    """
    listings, unmapped = [], 0
    for number, (key, wanted) in enumerate(rows.items()):
        found = manifest.read_rows(spec, key, sorted(wanted), [name for name in MANIFEST.names if name != "row"])
        path = folder / f"again-{number:05d}.parquet"
        manifest.write_rows(_mapped(found.to_batches(max_chunksize=500), api), path)
        listings.append(Listing(None, path, [(key, row) for row in found["row"].to_pylist()]))
        unmapped += found.num_rows if api.group_by_image else found["raw"].null_count
    return listings, unmapped


def _mapped(batches: list[Any], api: ApiSettings) -> Iterator[dict[str, Any]]:
    position = 0
    for batch in batches:
        for row in batch.select(MANIFEST.names).to_pylist():
            yield row | _row(position, row, api)
            position += 1


def _row(position: int, row: dict[str, Any], api: ApiSettings) -> dict[str, Any]:
    if row["raw"] is None or api.group_by_image:
        return {"row": position}
    empty: dict[str, Any] = dict.fromkeys(MANIFEST.names)
    return empty | manifest.manifest_row(position, json.loads(row["raw"]), api)
