"""Work items that are announced again with the same fingerprint: their metadata may differ, and their address is newer.

    candidate \\ work item   pending        claimed                  failed, dead, done   quarantined
    other metadata           columns        columns, then its rows   its rows             (is good work, see register.py)
    newer address            is read next   is read by a retry       is read by a retry   -

"Its rows": the item is pending again with rows_only, so a batch writes its rows again and cuts nothing. A
done item needs no address. An older updated_at changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, func, literal, null, or_, select, true, update
from sqlalchemy.sql.elements import ColumnElement

from cropline.state.held import kept
from cropline.state.tables import UtcTime, images

_KEY = ("source", "image_id", "profile")
_TOLD = ("manifest", "manifest_row", "bytes", "captured_at", "updated_at", "store_id", "camera_id", "metadata")
_SEEN = ("store_id", "camera_id", "captured_at")


def update_known(connection: Connection, now: datetime) -> int:
    """Update known work items from the staged candidates. Return how many have other metadata."""
    corrected = _update(connection, _corrected, _wanted_again(now))
    _update(connection, _moved, _learnt())
    return corrected


def _update(connection: Connection, which: Any, values: Any) -> int:
    from cropline.state.candidates import best

    told = best(connection)
    not_older = func.coalesce(told.c.updated_at >= images.c.updated_at, true())
    chosen = (
        select(*(images.c[name] for name in _KEY), *(told.c[name].label(f"told_{name}") for name in _TOLD))
        .join(told, and_(*(told.c[name] == images.c[name] for name in _KEY)))
        .where(
            told.c.state == "pending",
            told.c.fingerprint == images.c.fingerprint,
            told.c.metadata.is_not(None),
            images.c.state != "quarantined",
            not_older,
            which(told),
        )
        # Locked in the order of the key, as commits do.
        .order_by(images.c.image_id, images.c.profile)
        .with_for_update(of=images)
        .subquery("chosen")
    )
    statement = update(images).where(*(images.c[name] == chosen.c[name] for name in _KEY)).values(values(chosen))
    return int(connection.execute(statement).rowcount)


def _corrected(told: Any) -> ColumnElement[bool]:
    """Compare the metadata hash; for rows of earlier versions, which have none, compare the columns."""
    seen = or_(*(told.c[name].is_distinct_from(images.c[name]) for name in _SEEN))
    return case((images.c.metadata.is_(None), seen), else_=told.c.metadata != images.c.metadata)


def _moved(told: Any) -> ColumnElement[bool]:
    elsewhere = or_(told.c.manifest != images.c.manifest, told.c.manifest_row != images.c.manifest_row)
    return or_(
        images.c.metadata.is_(None),
        told.c.updated_at > images.c.updated_at,
        and_(images.c.state != "done", elsewhere),
    )


def _wanted_again(now: datetime) -> Any:
    moment = literal(now, UtcTime)
    waits, held = images.c.state == "pending", images.c.state == "claimed"
    of_claimed = and_(held, images.c.claimed_fingerprint == images.c.fingerprint)
    # A pending item will be cut with the new metadata, and so will one whose batch holds another fingerprint.
    stays = or_(waits, and_(held, ~of_claimed))

    def values(chosen: Any) -> dict[str, Any]:
        return {
            **kept(),
            **{name: chosen.c[f"told_{name}"] for name in _TOLD},
            "updated_at": func.coalesce(chosen.c.told_updated_at, images.c.updated_at),
            "state": case((or_(waits, held), images.c.state), else_="pending"),
            "since": case((or_(waits, held), images.c.since), else_=moment),
            "rows_only": case((stays, images.c.rows_only), else_=1),
            "reason": null(),
            "retry_at": null(),
            "changed_at": moment,
        }

    return values


def _learnt() -> Any:
    done = images.c.state == "done"

    def values(chosen: Any) -> dict[str, Any]:
        place = {
            name: case((done, images.c[name]), else_=chosen.c[f"told_{name}"])
            for name in ("manifest", "manifest_row", "bytes")
        }
        first = and_(images.c.metadata.is_(None), images.c.state == "claimed")
        before = kept()
        return {
            **before,
            **place,
            "updated_at": func.coalesce(chosen.c.told_updated_at, images.c.updated_at),
            "metadata": chosen.c.told_metadata,
            "claimed_metadata": case((first, chosen.c.told_metadata), else_=before["claimed_metadata"]),
        }

    return values
