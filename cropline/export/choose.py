"""Which crops an export takes: the user's condition, a version of the catalogue, a sample, and what it divides them into.

The chosen rows are copied to a DuckDB file first, so that profiles, labels and photos are known before a crop is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.catalogue import Catalogue, sql
from cropline.catalogue.versions import Version
from cropline.core.columns import described
from cropline.core.errors import ExportError
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from cropline.core.store_spec import StoreSpec

_ROWS = 1_000


@dataclass(frozen=True)
class Choice:
    """Which written crops to export. ``profiles``: empty means the only one.

    ``limit``: the first by key. ``sample``: this many at random, the same for the same ``seed``.
    """

    where: str | None = None
    profiles: Sequence[str] = ()
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    version: Version | None = None


@dataclass(frozen=True)
class Chosen:
    """The chosen rows. ``version``, ``committed_at``: the version of the catalogue that they are from."""

    database: DuckDBPyConnection
    version: int
    committed_at: datetime | None

    @cached_property
    def profiles(self) -> list[str]:
        """The profiles of the chosen crops, sorted."""
        return [name for (name,) in self.fetch("SELECT DISTINCT profile FROM chosen ORDER BY 1")]

    def columns(self, wanted: Callable[[str], bool]) -> pa.Schema:
        """Return the wanted columns with their types, and with the meaning of those that are ours."""
        schema: pa.Schema = self.database.table("chosen").limit(0).to_arrow_table().schema
        return described(pa.schema([field for field in schema if wanted(field.name)]))

    def fetch(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query of ours over the table ``chosen``."""
        return self.database.execute(query, list(values)).fetchall()

    def rows(self, part: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the chosen rows (CATALOGUE) in the order of their keys: all of them, or those of one part of a split."""
        rows = self.database.table("chosen")
        if part is not None:
            rows = self.database.sql(
                "SELECT chosen.* FROM chosen JOIN parts USING (source, image_id) WHERE part = $part",
                params={"part": part},
            )
        for batch in rows.order("key").to_arrow_reader(_ROWS):
            yield from batch.to_pylist()


@contextmanager
def choose(spec: StoreSpec, choice: Choice) -> Iterator[Chosen]:
    """Yield the chosen crops.

    Raise ExportError for an invalid condition, and for crops of several profiles when none is named. Raise
    CatalogueError when there is no catalogue, no such version, or when it cannot be read.
    """
    import duckdb

    if choice.limit is not None and choice.sample is not None:
        raise ExportError("give --limit or --sample, not both")
    found = Catalogue(spec).read_version(choice.version)
    with (
        tempfile.TemporaryDirectory(prefix="cropline-") as folder,
        sql.connect(found.rows, str(Path(folder) / "export.duckdb")) as database,
    ):
        database.execute("SET lock_configuration = true")
        try:
            with sql.reading(found.version):
                _copy(database, choice)
        except duckdb.Error as error:
            raise ExportError(f"--where: {one_line(str(error))}") from None
        chosen = Chosen(database, found.version, found.committed_at)
        if len(chosen.profiles) > 1 and not choice.profiles:
            raise ExportError(
                f"these crops are of the profiles {', '.join(chosen.profiles)}, so boxes are there more than once: "
                "name one with --profile, or several"
            )
        yield chosen


def _copy(database: DuckDBPyConnection, choice: Choice) -> None:
    import duckdb

    written = database.table(sql.TABLE).filter("status = 'written'")
    if choice.profiles:
        wanted = [duckdb.ConstantExpression(name) for name in choice.profiles]
        written = written.filter(duckdb.ColumnExpression("profile").isin(*wanted))
    if choice.where is not None:
        # As an expression, not as text in a statement: it cannot end the statement and begin another.
        written = written.filter(choice.where)
    if choice.sample is not None:
        written = written.order(f"md5(concat({int(choice.seed)}, ':', key)), key").limit(choice.sample)
    elif choice.limit is not None:
        written = written.order("key").limit(choice.limit)
    written.create("chosen")
