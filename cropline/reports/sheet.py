"""A contact sheet of crops for a notebook: ``cropline.show``."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cropline.core.errors import OptionError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cropline.core.store_spec import StoreSpec

_MOST = 200


@dataclass(frozen=True)
class Sheet:
    """A picture that a notebook displays. ``jpeg`` holds its bytes."""

    jpeg: bytes
    crops: int

    def _repr_jpeg_(self) -> bytes:
        return self.jpeg

    def _repr_html_(self) -> str:
        return f'<img alt="{self.crops} crops" src="data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}">'

    def __repr__(self) -> str:
        return f"Sheet of {self.crops} crops"


def show(
    crops: Any,
    *,
    store: str | StoreSpec | None = None,
    title: str | None = None,
    limit: int = 40,
    prefix: str = "crop_",
) -> Sheet:
    """Return a contact sheet of the first crops of a frame that cropline.crop or cropline.read_crops returned.

    crops: pandas, Arrow, a DuckDB relation, Spark or Dask; only ``limit`` rows of a lazy frame are computed.
    store: where the crops are when the frame does not hold their bytes; default: the storage in the settings.
    title: the column with the text below each crop.

    Rows without a crop show their reason. Raises OptionError for a frame without result columns.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST:
        raise OptionError(f"limit: must be 1 to {_MOST}")
    rows = _rows(crops, limit)
    known = set(rows[0]) if rows else set()
    own = prefix if f"{prefix}status" in known else ""
    if rows and f"{own}status" not in known:
        raise OptionError(
            "crops: the frame has no result columns; pass the result of cropline.crop or cropline.read_crops"
        )
    if title is not None and rows and title not in known:
        raise OptionError(f"title: the frame has no column {title!r}")
    return _drawn(rows, own, title, store)


def _drawn(rows: list[dict[str, Any]], prefix: str, title: str | None, store: str | StoreSpec | None) -> Sheet:
    from cropline.reports.contact_sheet import Tile, contact_sheet

    name = title or ("label" if rows and "label" in rows[0] else None)
    tiles = []
    for row in rows:
        size = f"{row.get(f'{prefix}width')} x {row.get(f'{prefix}height')} px"
        written = row[f"{prefix}status"] == "written"
        note = size if written else f"{row[f'{prefix}status']}: {row.get(f'{prefix}reason')}"
        tiles.append(Tile(_bytes(row, prefix, store) if written else b"", "" if name is None else str(row[name]), note))
    return Sheet(contact_sheet(tiles), len(tiles))


def _bytes(row: Mapping[str, Any], prefix: str, store: str | StoreSpec | None) -> bytes:
    data = row.get(f"{prefix}data")
    if isinstance(data, bytes):
        return data
    from cropline.catalogue.crop_files import COLUMNS, open_crop

    try:
        return open_crop({name: row.get(f"{prefix}{name}") for name in COLUMNS}, store).read()
    except StorageError:
        return b""  # the tile then says that it cannot be shown


def _rows(crops: Any, limit: int) -> list[dict[str, Any]]:
    module = type(crops).__module__.partition(".")[0]
    if module == "pyspark":
        crops = crops.limit(limit).toArrow()
    elif hasattr(crops, "to_arrow_table"):
        crops = crops.limit(limit).to_arrow_table()
    if hasattr(crops, "to_pylist"):
        return list(crops.slice(0, limit).to_pylist())
    if hasattr(crops, "dask"):
        crops = crops.head(limit, npartitions=-1)
    if not hasattr(crops, "to_dict"):
        raise OptionError(f"crops: a {type(crops).__name__} is not a frame")
    # pandas has three missing values; make all of them None.
    first = crops.head(limit).astype(object)
    return [
        dict(zip(map(str, first.columns), row, strict=True)) for row in first.where(first.notna(), None).values.tolist()
    ]
