"""The lineage events of an erasure, which is a run by itself.

It begins with the command and ends with the receipt, perhaps days later in another process. No event holds the id of a
photo, because a collector keeps events for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cropline.lineage import datasets, facets
from cropline.lineage.events import Event, EventKind, RunContext, run_event

if TYPE_CHECKING:
    from cropline.config.settings import Settings

ERASURE = "cropline.erasure"
_ENGINE = "deltalake"


@dataclass(frozen=True)
class ErasureTotals:
    """What an erasure removed. ``catalogue_version``: the version without it; None: there is no catalogue.

    ``image_ids``: its photos, for cropline's own event; lineage does not hold them.
    """

    images: int
    rows: int
    objects: int
    catalogue_version: int | None
    image_ids: tuple[str, ...] = ()


def erasure_began(settings: Settings, erasure_id: str, began_at: datetime) -> Event:
    """The START event. It is the same whenever it is built."""
    return _event(settings, "START", erasure_id, began_at, began_at, None)


def erasure_ended(
    settings: Settings, erasure_id: str, began_at: datetime, at: datetime, totals: ErasureTotals
) -> Event:
    """Its COMPLETE: the receipt is written."""
    return _event(settings, "COMPLETE", erasure_id, began_at, at, totals)


def _event(
    settings: Settings, kind: EventKind, erasure_id: str, began_at: datetime, at: datetime, totals: ErasureTotals | None
) -> Event:
    context = RunContext(
        flow_run_id=erasure_id,
        flow_name=ERASURE,
        run_name=f"forget {erasure_id}",
        deployment=None,
        started_at=began_at,
        nominal_time=None,
        engine=_ENGINE,
        engine_version="",
        prefect_url=None,
    )
    # It is not a Prefect run.
    tags: dict[str, str | None] = dict.fromkeys(("prefect.flow_run_id", "prefect.flow_run_name", "prefect.flow"))
    tags["cropline.erasure"] = erasure_id
    if totals is not None:
        tags |= {f"cropline.{name}": str(getattr(totals, name)) for name in ("images", "rows", "objects")}
    found = [_catalogue(settings, totals), _crops(settings, totals)]
    return run_event(
        kind,
        ERASURE,
        context,
        at=at,
        namespace=settings.lineage.namespace,
        inputs=[datasets.dataset((one["namespace"], one["name"])) for one in found],
        outputs=found,
        tags=tags,
    )


def _catalogue(settings: Settings, totals: ErasureTotals | None) -> Mapping[str, Any]:
    name = datasets.stored(settings.storage.spec, "catalogue")
    if totals is None:
        return datasets.dataset(name)
    version = totals.catalogue_version
    return datasets.dataset(
        name,
        version=facets.dataset_version(str(version)) if version is not None else None,
        storage=facets.storage("delta", "parquet"),
        lifecycleStateChange=facets.lifecycle("OVERWRITE") if totals.rows else None,
    )


def _crops(settings: Settings, totals: ErasureTotals | None) -> Mapping[str, Any]:
    name = datasets.stored(settings.storage.spec, "crops")
    changed = totals is not None and totals.objects > 0
    return datasets.dataset(name, lifecycleStateChange=facets.lifecycle("OVERWRITE") if changed else None)
