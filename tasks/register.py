"""register: upserts a manifest's images into the state table and moves the cursor, in one transaction.

It removes duplicates.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import task

from cropline.core.errors import EngineError
from cropline.core.keys import digest, fingerprint, metadata_hash
from cropline.intake import manifest
from cropline.pipeline.run import Run
from tasks.options import STEP
from tasks.poll import Polled
from tasks.validate import Validated

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import Registered

_COLUMNS = (
    "row", "image_id", "version", "content_hash", "item_digest", "boxes", "bytes",
    "captured_at", "updated_at", "store_id", "camera_id", "url",
)  # fmt: skip

_NEVER = datetime(1, 1, 1, tzinfo=UTC)


def register(run: Run, polled: Polled, validated: Validated) -> Registered:
    """Make new and changed images pending, store what was seen, and move the cursor, in one transaction."""
    from cropline.catalogue import Catalogue
    from cropline.pipeline import known_photos
    from cropline.state import Registration

    settings = run.settings
    rows = manifest.read(run.spec, validated.manifest, _COLUMNS, run.near.get(validated.manifest))

    def registration(moves: int, unknown: Collection[str]) -> Registration:
        return Registration(
            source=settings.api.source,
            manifest=validated.manifest,
            cursor=None if run.once else polled.cursor,
            rows=_candidates(rows, run, validated),
            item_digests=_digests(rows, polled, run),
            # Twice the overlap: the API may repeat an item a little late.
            forget_digests_before=_NEVER
            if run.once
            else datetime.fromisoformat(polled.cursor) - 2 * settings.api.overlap,
            profiles=registered_profiles(run),
            events=run.events(validated.events),
            urls={
                digest_: digest(url)
                for digest_, url in zip(rows["item_digest"].to_pylist(), rows["url"].to_pylist(), strict=True)
                if url and "?" in url
            },
            image_ids={}
            if settings.api.group_by_image
            else {
                digest_: image_id
                for digest_, image_id in zip(rows["item_digest"].to_pylist(), rows["image_id"].to_pylist(), strict=True)
                if image_id
            },
            moves=moves,
            unknown=unknown,
        )

    image_ids = {image_id for image_id in rows["image_id"].to_pylist() if image_id}
    return known_photos.register(run.state, Catalogue(run.spec), settings.api.source, image_ids, registration)


def registered_profiles(run: Run) -> dict[str, tuple[str, str]]:
    """Return hash and recipe of each profile.

    Raise EngineError for a lossless profile that this machine should cut and cannot, and for a step's column that the
    catalogue has with another type: once it is registered, such work could only fail.
    """
    profiles = run.settings.profiles
    copying = [name for name, profile in profiles.items() if profile.copies_bits]
    if copying and run.settings.engine.cuts_here:
        from fugue_jobs.imaging.lossless import cannot_copy

        refusal = cannot_copy()
        if refusal is not None:
            raise EngineError(f"profile {copying[0]}: {refusal}")
    if any(step.columns for profile in profiles.values() for step in profile.steps):
        from cropline.catalogue import Catalogue
        from cropline.core.own_columns import step_columns
        from fugue_jobs.engines.script import check_columns
        from fugue_jobs.rows import crops_schema

        columns = step_columns((name, step.columns) for name, profile in profiles.items() for step in profile.steps)
        check_columns(crops_schema(columns), columns, Catalogue(run.spec).columns())
    return {name: (profile.hash, profile.recipe) for name, profile in profiles.items()}


register_task = task(name="register", task_run_name="register {validated.rows} rows", **STEP)(register)


def _digests(rows: pa.Table, polled: Polled, run: Run) -> list[tuple[str, datetime | None]]:
    """Return each polled item's digest and updated_at. Rows of several items do not name them, so the spool is read."""
    api = run.settings.api
    if api.kind in ("files", "bucket"):
        return []  # files are remembered instead
    if not api.group_by_image:
        return list(zip(rows["item_digest"].to_pylist(), rows["updated_at"].to_pylist(), strict=True))
    with polled.spool.open(encoding="utf-8") as file:
        items = map(json.loads, file)
        return [(manifest.item_digest(item), manifest.updated_at(item, api)) for item in items]


def _candidates(rows: pa.Table, run: Run, validated: Validated) -> Iterator[pa.Table]:
    """Yield CANDIDATES, some thousand rows at a time. Quarantined rows are included when they name an image."""
    import pyarrow as pa

    from cropline.state import CANDIDATES

    profiles = {name: profile.hash for name, profile in run.settings.profiles.items()}
    for batch in rows.to_batches(max_chunksize=5_000):
        out = [
            _candidate(row, name, hash_, run, validated)
            for row in batch.to_pylist()
            if row["image_id"] and row["row"] not in validated.superseded
            for name, hash_ in profiles.items()
        ]
        yield pa.Table.from_pylist(out, schema=CANDIDATES)


def _candidate(
    row: dict[str, Any], profile: str, profile_hash: str, run: Run, validated: Validated
) -> dict[str, object]:
    broken = validated.bad.get(int(str(row["row"])))
    boxes = row["boxes"]
    return {
        **{name: row[name] for name in ("image_id", "bytes", "captured_at", "updated_at", "store_id", "camera_id")},
        "source": run.settings.api.source,
        "version": row["version"] or "",
        "profile": profile,
        "profile_hash": profile_hash,
        "fingerprint": fingerprint(str(row["content_hash"]), profile_hash),
        "manifest": validated.manifest,
        "manifest_row": row["row"],
        "boxes": len(boxes) if isinstance(boxes, list) else 0,
        "metadata": metadata_hash(row["store_id"], row["camera_id"], row["captured_at"], boxes or []),
        "state": "quarantined" if broken else "pending",
        "reason": ",".join(broken) if broken else None,
    }
