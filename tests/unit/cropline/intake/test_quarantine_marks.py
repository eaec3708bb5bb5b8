"""Find quarantined rows and mark replays: marks are added, no row is removed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cropline.core import storage
from cropline.core.errors import ManifestError
from cropline.core.store_spec import StoreSpec
from cropline.intake import quarantine
from cropline.intake.quarantine import QUARANTINE, Entry, Mark, QuarantineFilter

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FIRST, SECOND = "manifests/cams/2026-11-21/aaa.parquet", "manifests/cams/2026-11-22/bbb.parquet"


def bad(manifest: str, row: int, broken: list[str], **values: Any) -> dict[str, Any]:
    given = {"manifest": manifest, "row": row, "image_id": f"img-{row}", "store_id": "s1", "camera_id": "c1"}
    return {**given, "captured_at": NOON + timedelta(hours=row), "broken": broken, **values}


def put(spec: StoreSpec, manifest: str, *rows: dict[str, Any]) -> None:
    quarantine.add_rows(spec, manifest, pa.Table.from_pylist(list(rows), schema=QUARANTINE))


@pytest.fixture
def spec(tmp_path: Path) -> StoreSpec:
    spec = StoreSpec(tmp_path.as_uri())
    put(spec, FIRST, bad(FIRST, 0, ["a"]), bad(FIRST, 3, ["a", "b"], store_id="s2"))
    put(spec, SECOND, bad(SECOND, 1, ["b"], camera_id="c2"), bad(SECOND, 2, ["c"], captured_at=None, image_id=None))
    put(spec, "manifests/others/2026-11-22/ccc.parquet", bad("x", 9, ["a"]))
    return spec


def places(spec: StoreSpec, **wanted: Any) -> list[tuple[str, int]]:
    return [
        (key[-11:-8], row) for key, row in (e.place for e in quarantine.find(spec, "cams", QuarantineFilter(**wanted)))
    ]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [("aaa", 0), ("aaa", 3), ("bbb", 1), ("bbb", 2)]),
        ({"manifests": (FIRST,)}, [("aaa", 0), ("aaa", 3)]),
        ({"manifests": ("bbb.parquet",)}, [("bbb", 1), ("bbb", 2)]),
        ({"manifests": ("2026-11-22/bbb",)}, [("bbb", 1), ("bbb", 2)]),
        ({"manifests": ("quarantine/cams/2026-11-22/bbb.parquet", "aaa")}, [("aaa", 0), ("aaa", 3), ("bbb", 1), ("bbb", 2)]),
        ({"manifests": ("bb",)}, []),
        ({"rules": ("b",)}, [("aaa", 3), ("bbb", 1)]),
        ({"rules": ("b", "c")}, [("aaa", 3), ("bbb", 1), ("bbb", 2)]),
        ({"stores": ("s2",)}, [("aaa", 3)]),
        ({"cameras": ("c2",)}, [("bbb", 1)]),
        ({"images": ("img-0", "img-1")}, [("aaa", 0), ("bbb", 1)]),
        ({"since": NOON + timedelta(hours=1)}, [("aaa", 3), ("bbb", 1)]),
        ({"until": NOON + timedelta(hours=1)}, [("aaa", 0)]),
        ({"stores": ("s1",), "rules": ("b",)}, [("bbb", 1)]),
    ],
)  # fmt: skip
def test_rows_are_found_by_manifest_rule_place_and_time(
    spec: StoreSpec, wanted: dict[str, Any], found: list[tuple[str, int]]
) -> None:
    assert places(spec, **wanted) == found


def test_a_replayed_row_is_marked_and_stays(spec: StoreSpec) -> None:
    before = storage.read(spec, quarantine.quarantine_key(FIRST))
    quarantine.mark_replayed(spec, FIRST, [3], Mark("run-1", NOON, ("default",)))
    quarantine.mark_replayed(spec, FIRST, [0, 3], Mark("run-2", NOON + timedelta(hours=1), ("small",)))
    found = {entry.place[1]: entry for entry in quarantine.find(spec, "cams", QuarantineFilter(manifests=("aaa",)))}
    assert [mark.flow_run for mark in found[3].marks] == ["run-1", "run-2"]
    assert [mark.flow_run for mark in found[0].marks] == ["run-2"]
    assert found[3].replayed(["default", "small"])
    assert found[0].replayed(["small"])
    assert not found[0].replayed(["default", "small"])
    assert storage.read(spec, quarantine.quarantine_key(FIRST)) == before


def test_a_row_that_was_never_replayed_is_not_replayed_for_no_profile() -> None:
    assert not Entry({}).replayed([])


def test_the_same_mark_again_is_one_mark(spec: StoreSpec) -> None:
    for _ in range(2):
        quarantine.mark_replayed(spec, FIRST, [3], Mark("run-1", NOON, ("default",)))
    (entry,) = quarantine.find(spec, "cams", QuarantineFilter(rules=("b",), manifests=("aaa",)))
    assert len(entry.marks) == 1


def test_a_mark_that_is_none_is_named(spec: StoreSpec) -> None:
    storage.write(spec, "quarantine/cams/2026-11-21/aaa.replayed/x.json", b"[]")
    with pytest.raises(ManifestError, match=r"aaa\.replayed/x\.json is not a valid mark of a replay"):
        list(quarantine.find(spec, "cams", QuarantineFilter()))


def test_rows_added_later_stand_beside_those_before(spec: StoreSpec) -> None:
    put(spec, FIRST, bad(FIRST, 1, ["z"]), bad(FIRST, 3, ["y"]))
    table = quarantine.read(spec, quarantine.quarantine_key(FIRST))
    assert list(zip(table["row"].to_pylist(), table["broken"].to_pylist(), strict=True)) == [
        (0, ["a"]),
        (1, ["z"]),
        (3, ["y"]),
    ]
