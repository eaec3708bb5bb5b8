"""Derives each image's outcome, the batch's counts and its sample from crop rows.

The rows come from the crop job or from the catalogue (see ``became``); both lead to the same results. So a batch whose run
died between the two commits is finished without cropping again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cropline.core.failures import FAILURES, is_transient
from cropline.pipeline.funnel import Funnel
from cropline.state import Counts, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import Batch

_WORK_ITEM = ("source", "image_id", "profile", "fingerprint")
_SAMPLE, _WORST = 24, 8
_FAILURES = 200


# A good row that stayed holds the failed try in these columns, and the earlier batch's values in the others.
_TOLD = {"reason": "recrop_reason", "detail": "recrop_detail"}
_NOT_OURS = ("key", "shard", "offset", "bytes", "decoder")


def became(held: pa.Table) -> pa.Table:
    """Return the catalogue's rows of a batch as its crop job returned them: good rows that stayed are failures."""
    import pyarrow as pa
    import pyarrow.compute as pc

    stays = pc.is_valid(held["recrop_reason"])
    if not pc.any(stays).as_py():
        return held
    told = {name: held[column] for name, column in _TOLD.items()} | dict.fromkeys(_NOT_OURS) | {"status": "failed"}
    for name, value in told.items():
        field = held.schema.field(name)
        other = value if isinstance(value, pa.ChunkedArray) else pa.scalar(value, field.type)
        held = held.set_column(held.schema.get_field_index(name), field, pc.if_else(stays, other, held[name]))
    return held


def stayed(held: pa.Table) -> int:
    """Return how many of the batch's boxes failed and kept their earlier good crop."""
    return len(held) - int(held["recrop_reason"].null_count)


def outcomes(batch: Batch, crops: pa.Table) -> pa.Table:
    """Return OUTCOMES, one for each claimed work item. A work item without rows has no boxes and is done."""
    import pyarrow as pa

    from cropline.state.outcomes import all_done, as_table

    done, failures = all_done(batch), _failures(crops)
    if not failures:
        return done
    items = list(zip(*(done[name].to_pylist() for name in _WORK_ITEM), strict=True))
    failed = [
        _outcome(source, image_id, profile, fingerprint, failures[source, image_id, profile])
        for source, image_id, profile, fingerprint in items
        if (source, image_id, profile) in failures
    ]
    fine = done.filter(pa.array([item[:3] not in failures for item in items], pa.bool_()))
    return pa.concat_tables([fine, as_table(failed)])


def _failures(crops: pa.Table) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    import pyarrow.compute as pc

    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    told = crops.select(["source", "image_id", "profile", "reason", "retry_after_s"])
    for row in told.filter(pc.equal(crops["status"], "failed")).to_pylist():
        found.setdefault((row["source"], row["image_id"], row["profile"]), []).append(row)
    return found


def _outcome(source: str, image_id: str, profile: str, fingerprint: str, failed: list[dict[str, Any]]) -> Outcome:
    transient = [row for row in failed if is_transient(row["reason"])]
    permanent = [row["reason"] for row in failed if not is_transient(row["reason"])]
    waits = [row["retry_after_s"] for row in transient if row["retry_after_s"] is not None]
    return Outcome(
        source=source,
        image_id=image_id,
        profile=profile,
        fingerprint=fingerprint,
        ok=not transient,
        transient_reason=_most_common(row["reason"] for row in transient),
        permanent_reason=_most_common(permanent),
        retry_after_s=max(waits, default=None),
    )


def _most_common(reasons: Iterator[str] | list[str]) -> str | None:
    """Return the most frequent reason; among equals the first by name, so that the order of boxes does not matter."""
    counted = Counter(reasons)
    return min(counted, key=lambda reason: (-counted[reason], reason), default=None)


def counts(batch: Batch, crops: pa.Table) -> Counts:
    """Return the batch's counts."""
    import pyarrow.compute as pc

    status = Counter({entry["values"]: entry["counts"] for entry in pc.value_counts(crops["status"]).to_pylist()})
    boxes = crops.group_by(["source", "image_id", "box_index"], use_threads=False).aggregate([]).num_rows
    return Counts(
        images=batch.images.num_rows,
        boxes=boxes,
        written=status["written"],
        failed=status["failed"],
        skipped=status["skipped"],
    )


def funnel_of(batch: Batch, crops: pa.Table, counted: Counts) -> Funnel:
    """Return the batch's part of the run's counts, with some of its crops as samples."""
    import pyarrow.compute as pc

    reasons = Counter(crops["reason"].filter(pc.not_equal(crops["status"], "written")).to_pylist())
    return Funnel(
        images=counted.images,
        boxes=crops.num_rows,
        written=counted.written,
        failed=counted.failed,
        skipped=counted.skipped,
        reasons=reasons,
        decoders=_decoders(crops),
        retrying=sum(count for reason, count in reasons.items() if reason in FAILURES and is_transient(reason)),
        crop_bytes=pc.sum(crops["bytes"]).as_py() or 0,
        samples=_written(crops, batch),
        failures=_failed(crops, _FAILURES),
    )


def _decoders(crops: pa.Table) -> Counter[str]:
    """Return the number of photos per decoder. A photo with several boxes and profiles counts once."""
    import pyarrow.compute as pc

    told = crops.select(["source", "image_id", "decoder"]).filter(pc.not_equal(crops["decoder"], ""))
    photos = told.group_by(["source", "image_id"], use_threads=False).aggregate([("decoder", "last")])
    return Counter(photos["decoder_last"].to_pylist())


def _failed(crops: pa.Table, room: int) -> list[dict[str, Any]]:
    """Return the first failures. Boxes of one photo that failed for the same reason are one entry."""
    import pyarrow.compute as pc

    alike = ["image_id", "profile", "store_id", "camera_id", "reason", "detail"]
    failed = crops.select([*alike, "box_id"]).filter(pc.equal(crops["status"], "failed"))
    grouped = failed.group_by(alike, use_threads=False).aggregate([("box_id", "list")])
    return list(grouped.rename_columns([*alike, "box_ids"]).slice(0, max(0, room)).to_pylist())


def _written(crops: pa.Table, batch: Batch) -> list[dict[str, Any]]:
    """Return a sample of the batch's crops: the least sharp ones, and a random choice of the others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [
        "key",
        "shard",
        "offset",
        "bytes",
        "label",
        "box_id",
        "store_id",
        "store_name",
        "camera_id",
        "image_id",
        "profile",
        "sharpness",
    ]
    written = crops.select(columns).filter(pc.equal(crops["status"], "written"))
    worst = pc.sort_indices(written, [("sharpness", "ascending")])[:_WORST].to_pylist()
    # The seed gives a rerun the same contact sheet. Sampling needs no secure random numbers.
    rest = [place for place in range(len(written)) if place not in worst]
    chosen = random.Random(batch.batch_id).sample(rest, min(_SAMPLE - _WORST, len(rest)))  # noqa: S311
    return list(written.take(pa.array(sorted([*worst, *chosen]), pa.int64())).to_pylist())
