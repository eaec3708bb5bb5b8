"""Frames in Parquet and CSV files, on a disk or in a bucket."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from cropline.core.errors import ApiRefused, ApiUnavailable, OptionError, StorageError

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.intake.sources.file_listing import Place, SpecOf

_ENDINGS = {"parquet": (".parquet", ".pq"), "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz")}
_KNOWN = ", ".join(ending for endings in _ENDINGS.values() for ending in endings)


def read_files(where: str, spec_of: SpecOf) -> pa.Table:
    """Return the rows of one file, of all files below a folder, or of those that a glob names, in order of their names.

    where: a path, or the address of an object or prefix (s3://bucket/boxes/*.parquet). Folders named ``day=2026-03-02``
    are a text column ``day``. spec_of: how a bucket is opened.

    Raise OptionError when there is none, one cannot be read, or their columns differ.
    """
    import pyarrow as pa

    from cropline.intake.sources.file_listing import place_of

    place = place_of(where, spec_of)
    names = _names(place, where)
    tables = [_with_folders(_read(place, name), name) for name in names]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise OptionError(f"df: the files of {where} have different columns: {str(error).splitlines()[0]}") from None


def _names(place: Place, where: str) -> list[str]:
    from cropline.intake.sources.file_listing import matching

    try:
        found = sorted(file.name for file in matching(place))
    except (ApiRefused, ApiUnavailable) as error:
        raise OptionError(f"df: {str(error).removeprefix('CROPLINE_API__URL: ')}") from None
    if not found:
        raise OptionError(f"df: there is no file {where}")
    names = [name for name in found if _kind(name)]
    if not names:
        raise OptionError(f"df: {_last(found[0])} is neither Parquet nor CSV ({_KNOWN})")
    return names


def _kind(name: str) -> str | None:
    return next((kind for kind, endings in _ENDINGS.items() if name.lower().endswith(endings)), None)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _read(place: Place, name: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = _kind(name)
    try:
        with place.open(name) as file:
            source = pa.PythonFile(file, "r")
            if kind == "parquet":
                return pq.read_table(source, partitioning=None)
            return _read_csv(source.read_at(source.size(), 0), name.lower())  # in one request
    except StorageError as error:
        raise OptionError(f"df: {error}") from None
    except (OSError, pa.ArrowException) as error:
        raise OptionError(f"df: {_last(name)} cannot be read as {kind}: {type(error).__name__}") from None


def _read_csv(data: bytes, name: str) -> pa.Table:
    """Read numbers as numbers unless that changes them (007); everything else stays text."""
    import gzip

    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    text = gzip.decompress(data) if name.endswith(".gz") else data
    parsing = csv.ParseOptions(delimiter="\t" if ".tsv" in name[-7:] else ",", newlines_in_values=True)
    table = csv.read_csv(io.BytesIO(text), parse_options=parsing)
    as_text = csv.ConvertOptions(
        column_types=dict.fromkeys(table.column_names, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    texts = csv.read_csv(io.BytesIO(text), parse_options=parsing, convert_options=as_text)
    for place, field in enumerate(table.schema):
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        if not number or pc.any(pc.match_substring_regex(texts.column(place), r"^\s*[+-]?0[0-9]")).as_py():
            table = table.set_column(place, field.name, texts.column(place))
    return table


def _with_folders(table: pa.Table, name: str) -> pa.Table:
    """Return the table with a text column for each folder of the name that is written column=value."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    columns = [folder.partition("=")[0] for folder in name.split("/")[:-1] if "=" in folder]
    new = pa.schema([(column, pa.string()) for column in dict.fromkeys(columns) if column not in table.column_names])
    values = ds.get_partition_keys(ds.partitioning(new, flavor="hive").parse(name))
    for field in new:
        table = table.append_column(field, pa.repeat(pa.scalar(values.get(field.name), field.type), table.num_rows))
    return table
