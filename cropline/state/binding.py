"""What a state database belongs to: one storage, one API per source, and the commits of the catalogue that it knows."""

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
    """Bind the database to this storage (StoreSpec.identity) and the source to this API. The first run decides.

    Raise StateError when it is bound to another. ``api`` None: do not check the API.
    """
    while not check(database, storage, source, api):
        with database.atomic() as connection:
            _put(connection, place(storage), source, normal(api) if api else None, again=False)


def check(database: Database, storage: str, source: str, api: str | None) -> bool:
    """Return whether the database is bound to this storage and the source to this API. Writes nothing.

    Raise StateError when it is bound to another.
    """
    storage, api = place(storage), normal(api) if api else None
    with database.reading() as connection:
        bound, known = _bound(connection), _api(connection, source)
    _check(bound.storage, storage, "storage", "CROPLINE_STORAGE__URL", "--storage")
    _check(known, api, f"image API of {source}", "CROPLINE_API__URL", "--api")
    return bound.storage is not None and (api is None or known is not None)


def move(database: Database, storage: str | None, source: str, api: str | None) -> None:
    """Bind to another storage, or the source to another API. What was known of the old catalogue is forgotten."""
    with database.atomic() as connection:
        _put(connection, place(storage) if storage else None, source, normal(api) if api else None, again=True)


def bound(database: Database) -> Bound:
    """Return what the database is bound to, and what it remembers of the catalogue."""
    with database.reading() as connection:
        return _bound(connection)


def remember(connection: Connection, version: int, *, unknown_batches: bool) -> None:
    """Record that every commit up to this version was checked, and whether one was of an unknown batch."""
    newest = case((binding.c.catalogue_version >= version, binding.c.catalogue_version), else_=literal(version))
    values: dict[str, object] = {"catalogue_version": newest}
    if unknown_batches:
        values |= {"unknown_batches": 1, "duplicates_checked": 0}
    connection.execute(update(binding).values(values))


def duplicates_checked(database: Database) -> None:
    """Record that the catalogue was searched for duplicated work items, and that none of those found is left."""
    with database.atomic() as connection:
        connection.execute(update(binding).values(duplicates_checked=1))


def known_batches(database: Database, batch_ids: Collection[str]) -> set[str]:
    """Return those of the batches that this state made."""
    wanted, found = sorted(set(batch_ids)), set[str]()
    with database.reading() as connection:
        for start in range(0, len(wanted), _IDS_A_QUERY):
            query = select(batches.c.batch_id).where(batches.c.batch_id.in_(wanted[start : start + _IDS_A_QUERY]))
            found.update(connection.execute(query).scalars())
    return found


def place(storage: str) -> str:
    """Return the address of a storage (StoreSpec.identity) in canonical form."""
    return " at ".join(normal(part) for part in storage.split(" at ", 1))


def normal(address: str) -> str:
    """Return an address in canonical form: no extra slashes, no default port, scheme and host in lower case."""
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
            f"this state database belongs to the {what} {bound}, and {setting} names {given}: each installation needs its own "
            f"state database (CROPLINE_STATE__URL); if this installation moved there: cropline move-state {option}"
        )


def _bound(connection: Connection) -> Bound:
    row = connection.execute(select(binding)).one()
    return Bound(row.storage, row.catalogue_version, bool(row.unknown_batches), bool(row.duplicates_checked))


def _api(connection: Connection, source: str) -> str | None:
    return connection.execute(select(sources.c.api).where(sources.c.source == source)).scalar()


def _put(connection: Connection, storage: str | None, source: str, api: str | None, *, again: bool) -> None:
    if storage is not None:
        free = binding.c.storage.is_(None)
        other = or_(free, binding.c.storage != storage)
        reset = {"catalogue_version": None, "unknown_batches": 0, "duplicates_checked": 0} if again else {}
        connection.execute(update(binding).where(other if again else free).values(storage=storage, **reset))
    if api is not None:
        row = upsert(connection, sources).values(source=source, api=api)
        kept = row.excluded.api if again else func.coalesce(sources.c.api, row.excluded.api)
        connection.execute(row.on_conflict_do_update(index_elements=[sources.c.source], set_={"api": kept}))
