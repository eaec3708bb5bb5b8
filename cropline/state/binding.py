"""What a state database belongs to: one storage, one API a source, and the commits of the catalogue that it knows of."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, case, func, literal, or_, select, update

from cropline.core.errors import StateError
from cropline.state.database import Database
from cropline.state.model import Bound
from cropline.state.tables import batches, binding, sources
from cropline.state.upsert import upsert

_IDS_A_QUERY = 1_000
_SLASHES = re.compile("/+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def bind(database: Database, storage: str, source: str, api: str | None) -> None:
    """Belong to this storage (StoreSpec.identity) and, for the source, to this API from now on: the first run decides.

    Raises StateError when it belongs to another. ``api`` None: nothing is said of it.
    """
    storage, api = place(storage), normal(api) if api else None
    while True:
        with database.reading() as connection:
            bound, known = _bound(connection), _api(connection, source)
        _check(bound.storage, storage, "storage", "CROPLINE_STORAGE__URL", "--storage")
        _check(known, api, f"image API of {source}", "CROPLINE_API__URL", "--api")
        if bound.storage is not None and (api is None or known is not None):
            return  # an idle poll writes nothing
        with database.atomic() as connection:
            _put(connection, storage, source, api, again=False)


def move(database: Database, storage: str | None, source: str, api: str | None) -> None:
    """Belong to another storage, or for the source to another API. Of another storage's catalogue nothing is known yet."""
    with database.atomic() as connection:
        _put(connection, place(storage) if storage else None, source, normal(api) if api else None, again=True)


def bound(database: Database) -> Bound:
    """What it belongs to, and what it remembers of the catalogue."""
    with database.reading() as connection:
        return _bound(connection)


def remember(connection: Connection, version: int, *, strangers: bool) -> None:
    """Every commit up to this version was looked at; ``strangers``: one of them was of a batch that is not known here."""
    newest = case((binding.c.catalogue_version >= version, binding.c.catalogue_version), else_=literal(version))
    values: dict[str, object] = {"catalogue_version": newest}
    if strangers:
        values |= {"strangers": 1, "doubles_checked": 0}
    connection.execute(update(binding).values(values))


def doubles_checked(database: Database) -> None:
    """The catalogue was searched for works that stand in it twice; none is left of those that were there until now."""
    with database.atomic() as connection:
        connection.execute(update(binding).values(doubles_checked=1))


def known_batches(database: Database, batch_ids: Collection[str]) -> set[str]:
    """Those of the batches that this state made."""
    wanted, found = sorted(set(batch_ids)), set[str]()
    with database.reading() as connection:
        for start in range(0, len(wanted), _IDS_A_QUERY):
            query = select(batches.c.batch_id).where(batches.c.batch_id.in_(wanted[start : start + _IDS_A_QUERY]))
            found.update(connection.execute(query).scalars())
    return found


def place(storage: str) -> str:
    """The address of a storage (StoreSpec.identity), in one way of writing it."""
    return " at ".join(normal(part) for part in storage.split(" at ", 1))


def normal(address: str) -> str:
    """An address without what makes no difference: slashes that are too many, the scheme's own port, the case of scheme and host."""
    parts = urlsplit(address)
    scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    path = _SLASHES.sub("/", unquote(parts.path) if scheme == "file" else parts.path).rstrip("/")
    shown = f"[{host}]" if ":" in host else host
    return (
        f"{scheme}://{shown}{path}"
        if port in (None, _DEFAULT_PORTS.get(scheme))
        else f"{scheme}://{shown}:{port}{path}"
    )


def _check(bound: str | None, given: str | None, what: str, setting: str, option: str) -> None:
    if bound is not None and given is not None and bound != given:
        raise StateError(
            f"this state database belongs to the {what} {bound}, and {setting} names {given}: every installation needs a state "
            f"database of its own (CROPLINE_STATE__URL); if the same one moved there: cropline move-state {option}"
        )


def _bound(connection: Connection) -> Bound:
    row = connection.execute(select(binding)).one()
    return Bound(row.storage, row.catalogue_version, bool(row.strangers), bool(row.doubles_checked))


def _api(connection: Connection, source: str) -> str | None:
    return connection.execute(select(sources.c.api).where(sources.c.source == source)).scalar()


def _put(connection: Connection, storage: str | None, source: str, api: str | None, *, again: bool) -> None:
    if storage is not None:
        free = binding.c.storage.is_(None)
        other = or_(free, binding.c.storage != storage)
        anew = {"catalogue_version": None, "strangers": 0, "doubles_checked": 0} if again else {}
        connection.execute(update(binding).where(other if again else free).values(storage=storage, **anew))
    if api is not None:
        row = upsert(connection, sources).values(source=source, api=api)
        kept = row.excluded.api if again else func.coalesce(sources.c.api, row.excluded.api)
        connection.execute(row.on_conflict_do_update(index_elements=[sources.c.source], set_={"api": kept}))
