"""refresh: gets new URLs from the image API for photos whose signed URL has expired, within their batch.

It runs on the driver, under the API's rate limit. The new URLs are landed in a separate manifest, because URLs are
kept only in manifests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger

from cropline.core.errors import ApiError
from cropline.core.keys import content_hash
from cropline.core.scrub import one_line
from cropline.core.signed_urls import expires_at, has_expired, is_signed
from cropline.intake import image_api, manifest
from cropline.intake.sources.base import Source
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.heartbeat import Heartbeat
from cropline.pipeline.run import Run
from tasks.rate_limit import leave, limit_of

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import Batch

Place = tuple[str, int]
"""Manifest key and row."""

_APART = timedelta(minutes=10)


def refresh(run: Run, batch: Batch, claims: pa.Table) -> dict[Place, Place]:
    """Ask the API for these images (schemas.CLAIM) again. Return old place -> place of the row with the new URL.

    The state uses the new places from now on. Images that the API does not return, or returns unchanged, are left out.
    """
    rows = _landed(run, claims)
    items = _ask(run, list(rows.values()))
    fresh = [(place, row | told) for place, row in rows.items() if (told := _fresh(run, row, items))]
    moved: dict[Place, Place] = {}
    if fresh:
        path = run.folder / f"fresh-{batch.batch_id}-{batch.attempt}.parquet"
        manifest.write_rows((row | {"row": position} for position, (_, row) in enumerate(fresh)), path)
        newest = max((row["updated_at"] or row["captured_at"] or datetime.now(UTC) for _, row in fresh))
        key = manifest.land(path, batch.source, f"{newest:%Y-%m-%d}", run.spec)
        moved = {place: (key, position) for position, (place, _) in enumerate(fresh)}
        run.state.readdress(batch, moved)
    run.add(Funnel(refreshed=len(moved)))
    get_run_logger().info(
        "batch %s: the image API returned new URLs for %d of %d photos", batch.batch_id, len(moved), len(rows)
    )
    return moved


def refreshed_first(run: Run, batch: Batch, *, announced_now: Collection[str], signed: bool) -> Batch:
    """Return the batch with new URLs for the photos that need one, before anything is fetched.

    A photo needs one when its URL has expired by its own query, or is signed and does not say until when. With
    ``signed``, every signed URL counts, because a replay does not know whether its signature is still valid.
    ``announced_now``: manifests whose URLs are new; of these only expired ones count. When the API returns no new URL,
    the old one is tried.
    """
    import pyarrow as pa

    now = datetime.now(UTC)

    def wants(place: Place, url: str | None) -> bool:
        if url is None or place[0] in announced_now:
            return url is not None and has_expired(url, now)
        return is_signed(url) and (signed or expires_at(url) is None or has_expired(url, now))

    urls = {place: row["url"] for place, row in _landed(run, batch.images, ("url",)).items()}
    wanted = [wants(place, urls.get(place)) for place in places(batch.images)]
    if not any(wanted):
        return batch
    with Heartbeat(lambda: run.state.renew(batch), run.settings.state.lease_s / 3, f"batch {batch.batch_id}"):
        moved = refresh(run, batch, batch.images.filter(pa.array(wanted)))
    return replace(batch, images=moved_to(batch.images, moved))


def moved_to(claims: pa.Table, moved: dict[Place, Place]) -> pa.Table:
    """Return the claims with the new places of the moved rows."""
    import pyarrow as pa

    now = [moved.get(place, place) for place in places(claims)]
    for name, values in (("manifest", [key for key, _ in now]), ("manifest_row", [row for _, row in now])):
        position = claims.schema.get_field_index(name)
        claims = claims.set_column(
            position, claims.schema.field(name), pa.array(values, claims.schema.field(name).type)
        )
    return claims


def places(claims: pa.Table) -> list[Place]:
    """Return the places of the rows of a table with ``manifest`` and ``manifest_row``."""
    return list(zip(claims["manifest"].to_pylist(), claims["manifest_row"].to_pylist(), strict=True))


def _landed(run: Run, claims: pa.Table, columns: Sequence[str] | None = None) -> dict[Place, dict[str, Any]]:
    """Return the manifest rows of the claims as they were landed, or some of their columns."""
    from cropline.core.schemas import MANIFEST

    wanted: dict[str, list[int]] = {}
    for key, row in places(claims):
        wanted.setdefault(key, []).append(row)
    names = columns or [name for name in MANIFEST.names if name != "row"]
    return {
        (key, row["row"]): row
        for key, numbers in sorted(wanted.items())
        for row in manifest.read_rows(run.spec, key, numbers, names).to_pylist()
    }


def _ask(run: Run, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return image id -> item, as far as the API returns them. An API failure ends no batch: the photos are retried."""
    api = run.settings.api
    found: dict[str, dict[str, Any]] = {}
    if not api.is_set or not rows:
        return found
    try:
        source = image_api.open_source(api, leave(name=limit_of(run.settings)), None, run.settings.bucket_spec)
        answers = _by_id(source, rows) if source.finds else _listed(run, rows)
        for image_id, item in answers:
            found[image_id] = item  # noqa: PERF403 - items returned before the API failed count
    except ApiError as error:
        get_run_logger().warning("no more new URLs: %s", one_line(str(error)))
    return found


def _by_id(source: Source, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    ids = sorted({row["image_id"] for row in rows})
    return ((name, item) for name, item in source.items(ids) if item is not None)


def _listed(run: Run, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """List again around the update times of the images, at most max_pages pages in all."""
    api = run.settings.api
    wanted = {row["image_id"] for row in rows}
    moments = [row["updated_at"] for row in rows if row["updated_at"] is not None]
    spans: list[tuple[datetime | None, datetime | None]] = [*image_api.spans(moments, max(api.overlap, _APART))]
    if len(moments) < len(rows):
        spans.append((None, None))
    left = api.max_pages
    for first, last in spans:
        for page in image_api.pages(
            api, image_api.since(api, first), leave(name=limit_of(run.settings)), run.settings.bucket_spec
        ):
            left -= 1
            newest: datetime | None = None
            for item in page:
                name = manifest.image_id(item, api)
                newest = manifest.updated_at(item, api) or newest
                if name is not None and name in wanted:
                    wanted.discard(name)
                    yield name, item
            if not wanted or left <= 0:
                return
            if last is not None and newest is not None and newest > last:
                break


def _fresh(run: Run, row: dict[str, Any], items: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of an image's item. None when its URL is the same, or its version differs: polls register that."""
    item = items.get(row["image_id"])
    if item is None:
        return None
    try:
        told = manifest.manifest_row(0, item, run.settings.api)
    except RecursionError:  # the item is nested too deep to parse; a poll quarantines it
        return None
    same = content_hash(told["version"] or "", row["coordinates"], row["orientation"], told["boxes"] or [])
    # An item that is one box does not have all boxes of its photo, so only versions can be compared.
    changed = told["version"] != row["version"] if run.settings.api.group_by_image else same != row["content_hash"]
    if not told["url"] or told["url"] == row["url"] or changed:
        return None
    return {"url": told["url"], "item_digest": told["item_digest"]}
