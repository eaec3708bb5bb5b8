"""The rules of a good batch of crops: counts reconcile, keys are unique, sizes match, written objects exist.

Rows are committed before they are checked. A broken critical rule means that crops were lost or mixed up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cropline.core.errors import CatalogueError, ManifestError
from cropline.core.failures import FAILURES
from expectations.manifest import NONE, PRESENT, Check, Rule
from expectations.objects import StoredObject

if TYPE_CHECKING:
    import pyarrow as pa

    from expectations.gx import ExpectationOutcome, SuiteRun

_STATUS = Check("one_of", values=("failed", "skipped", "written"))
_REASON = Check("one_of", values=tuple(sorted(FAILURES)))

WORK_RULES = (
    Rule("boxes_all_accounted", "box_index", "boxes_lost", NONE, "Every claimed box has its row", "critical"),
    Rule("boxes_none_invented", "box_index", "boxes_invented", NONE, "Every row is of a claimed box", "critical"),
)

CROP_RULES = (
    Rule("status_known", "status", "status", _STATUS, "A crop is written, failed or skipped", "critical"),
    Rule("box_once", "box_index", "box_repeated", NONE, "A box has one row per profile", "critical"),
    Rule("key_once", "key", "key_repeated", NONE, "No two crops have the same key", "critical"),
    Rule(
        "written_complete", "key", "written_lacking", NONE, "A written crop has key, size, hash and format", "critical"
    ),
    Rule(
        "unwritten_without_key", "key", "unwritten_with_key", NONE, "A crop that was not written has no key", "critical"
    ),
    Rule("region_in_picture", "left", "region_outside", NONE, "A crop's region is in its picture and has an area"),
    Rule(
        "size_matches_region",
        "width",
        "size_differs",
        NONE,
        "A crop has its region's size, contains it, or is shrunk in proportion",
    ),
)

UNWRITTEN_RULES = (
    Rule("reason_present", "reason", "reason", PRESENT, "A crop that was not written has a reason"),
    Rule("reason_known", "reason", "reason", _REASON, "The reason is listed in docs/failures.md"),
)

OBJECT_RULES = (
    Rule("object_there", "key", "missing", NONE, "A sampled crop's object exists", "critical"),
    Rule(
        "object_size",
        "bytes",
        "size_differs",
        NONE,
        "A sampled crop's object has the size in its row",
        "critical",
    ),
    Rule(
        "object_hash",
        "sha256",
        "hash_differs",
        NONE,
        "A sampled crop's object has the hash in its row",
        "critical",
    ),
)


@dataclass(frozen=True)
class BatchVerdict:
    """The suite's result. ``broken``: rule -> positions of crop rows, or for WORK_RULES of claimed work items."""

    outcomes: list[ExpectationOutcome]
    critical: list[str]
    broken: dict[str, list[int]]


def claimed_boxes(counts: pa.Table, claims: pa.Table) -> pa.Table:
    """Return how many crop rows a batch must have: source, image_id, profile and boxes per claimed work item, in order.

    ``counts``: manifest, manifest_row and the number of boxes of the batch's images. ``claims``: schemas.CLAIM.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    works = pc.list_parent_indices(claims["work"])
    profiles = pc.struct_field(pc.list_flatten(claims["work"]), "profile")
    place = ["manifest", "manifest_row"]
    work = claims.select(["source", "image_id", *place]).take(works).append_column("profile", profiles)
    work = work.append_column("at", pa.array(range(len(work)), pa.int64()))
    joined = work.join(counts.select([*place, "boxes"]), place, join_type="left outer")
    return joined.sort_by("at").select(["source", "image_id", "profile", "boxes"])


def check_batch(crops: pa.Table, claimed: pa.Table, objects: Mapping[str, StoredObject | None]) -> BatchVerdict:
    """Validate the rows of one batch (schemas.CROPS or the catalogue's).

    ``claimed``: see claimed_boxes. ``objects``: what the store has at some written keys, see read_objects.
    Raise CatalogueError when an expectation could not be evaluated.
    """
    from expectations.catalogue_columns import crop_frame, object_frame, unwritten_frame, work_frame
    from expectations.gx import run_suite

    try:
        runs = [
            run_suite("batch works", work_frame(crops, claimed), WORK_RULES),
            run_suite("batch crops", crop_frame(crops), CROP_RULES),
            run_suite("batch unwritten", unwritten_frame(crops), UNWRITTEN_RULES),
            run_suite("batch objects", object_frame(crops, objects), OBJECT_RULES),
        ]
    except ManifestError as error:
        raise CatalogueError(str(error)) from error
    return _verdict(runs)


def _verdict(runs: Sequence[SuiteRun]) -> BatchVerdict:
    outcomes = [outcome for run in runs for outcome in run.outcomes]
    return BatchVerdict(
        outcomes=outcomes,
        critical=[outcome.name for outcome in outcomes if outcome.severity == "critical" and not outcome.success],
        broken={name: rows for run in runs for name, rows in run.broken.items()},
    )
