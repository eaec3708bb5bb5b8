"""Frames in Parquet and CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cropline.core.errors import OptionError

if TYPE_CHECKING:
    import pyarrow as pa

_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".csv.gz", ".tsv")


def kind_of(path: Path) -> str:
    """Return "parquet" or "csv", by the file's name. A folder holds Parquet files. Raise OptionError."""
    if not path.exists():
        raise OptionError(f"df: there is no file {path}")
    name = path.name.lower()
    if path.is_dir() or name.endswith(_PARQUET):
        return "parquet"
    if name.endswith(_CSV):
        return "csv"
    raise OptionError(f"df: {path.name} is neither Parquet ({', '.join(_PARQUET)}) nor CSV ({', '.join(_CSV)})")


def read_file(path: Path) -> pa.Table:
    """Return the file's rows. Raise OptionError when it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = kind_of(path)
    try:
        return pq.read_table(path) if kind == "parquet" else _read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise OptionError(f"df: {path.name} cannot be read as {kind}: {type(error).__name__}") from None


def _read_csv(path: Path) -> pa.Table:
    """Read numbers as numbers unless that changes them (007); everything else stays text."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    parsing = csv.ParseOptions(delimiter="\t" if path.name.lower().endswith(".tsv") else ",", newlines_in_values=True)
    table = csv.read_csv(path, parse_options=parsing)
    as_text = csv.ConvertOptions(
        column_types=dict.fromkeys(table.column_names, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    texts = csv.read_csv(path, parse_options=parsing, convert_options=as_text)
    for place, field in enumerate(table.schema):
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        if not number or pc.any(pc.match_substring_regex(texts.column(place), r"^\s*[+-]?0[0-9]")).as_py():
            table = table.set_column(place, field.name, texts.column(place))
    return table
