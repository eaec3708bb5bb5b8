"""The outcomes of a batch: one for each work item, from the crop rows."""

from datetime import UTC, datetime

import pyarrow as pa

from cropline.core.schemas import CLAIM
from cropline.pipeline.outcomes import outcomes
from cropline.state import OUTCOMES, Batch

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROWS = pa.schema(
    [
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("profile", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("retry_after_s", pa.int64()),
    ]
)
FINE = {"ok": True, "transient_reason": None, "permanent_reason": None, "retry_after_s": None}


def batch_of(*image_ids: str) -> Batch:
    """A batch of these images, each with two profiles."""
    works = [
        {"profile": name, "profile_hash": "h", "fingerprint": f"print of {name}", "recipe": "{}"}
        for name in ("large", "small")
    ]
    images = [
        {"source": "cams", "image_id": image_id, "manifest": "m", "manifest_row": row, "work": works}
        for row, image_id in enumerate(image_ids)
    ]
    table = pa.Table.from_pylist(images, schema=CLAIM)
    return Batch("b", 1, "cams", NOON, resumed=False, lease_until=NOON, images=table, superseding=[])


def crops(*rows: tuple[str, str, str, str | None, int | None]) -> pa.Table:
    names = ROWS.names[1:]
    return pa.Table.from_pylist([{"source": "cams"} | dict(zip(names, row, strict=True)) for row in rows], schema=ROWS)


def told(table: pa.Table) -> dict[tuple[str, str], dict[str, object]]:
    assert table.schema == OUTCOMES
    found = {(row.pop("image_id"), row.pop("profile")): row for row in table.to_pylist()}
    assert len(found) == table.num_rows
    return found


def test_each_work_item_is_told_once_and_only_the_failed_ones_have_reasons() -> None:
    found = told(
        outcomes(
            batch_of("a", "b", "c"),
            crops(
                ("a", "large", "written", None, None),
                ("a", "small", "written", None, None),
                ("b", "large", "failed", "timeout", 7),
                ("b", "large", "failed", "timeout", 9),
                ("b", "large", "failed", "box_outside", None),
                ("b", "small", "failed", "box_outside", None),
            ),
        )
    )
    expected = {
        (image_id, profile): FINE | {"source": "cams", "fingerprint": f"print of {profile}"}
        for image_id in "abc"
        for profile in ("large", "small")
    }
    expected["b", "large"] |= {
        "ok": False, "transient_reason": "timeout", "permanent_reason": "box_outside", "retry_after_s": 9
    }  # fmt: skip
    expected["b", "small"] |= {"permanent_reason": "box_outside"}
    assert found == expected, "c has no rows: it has no boxes and is done"


def test_a_batch_without_failures_is_done() -> None:
    found = told(outcomes(batch_of("a"), crops(("a", "large", "written", None, None))))
    assert [row["ok"] for row in found.values()] == [True, True]
