"""Planning a backfill: the table of cases, which rows count, slices within limits, and the texts about it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cropline.backfill.choose import AMBIGUOUS, Chosen, Row, choose
from cropline.backfill.classify import Selection, WorkItem, decide
from cropline.backfill.estimate import estimate
from cropline.backfill.listings import Announced, Listing, landed, polled, start_of
from cropline.backfill.plan import Budget, Plan, by_day, ordered, slices
from cropline.backfill.progress import Progress
from cropline.backfill.report import plan_markdown, progress_markdown, span
from cropline.backfill.request import Limits, Photos, backfill_id
from cropline.config.settings import ApiSettings
from cropline.core.keys import fingerprint
from cropline.core.store_spec import StoreSpec
from cropline.erasure.selection import Selection as Erasing
from cropline.intake import manifest
from cropline.state import ImageState

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MEMORY = StoreSpec("memory:///")
API = ApiSettings(source="cams")
EVERYTHING = Photos()


def _row(image_id: str = "a", **values: Any) -> Row:
    return Row(
        **{
            "listing": 0, "row": 0, "image_id": image_id, "version": "v1", "content_hash": "c1", "captured_at": NOON,
            "updated_at": NOON, "store_id": "s", "camera_id": "c", "bytes": 1_000, "boxes": 3,
        }
        | values
    )  # fmt: skip


def _known(state: str, **values: Any) -> ImageState:
    return ImageState(
        **{
            "source": "cams", "image_id": "a", "profile": "p", "state": state, "since": NOON, "reason": None,
            "attempts": 0, "retry_at": None, "profile_hash": "r1", "version": "v1",
            "fingerprint": fingerprint("c1", "r1"), "manifest": "m", "manifest_row": 0, "boxes": 3,
            "captured_at": NOON, "updated_at": NOON, "store_id": "s", "camera_id": "c", "first_seen": NOON,
            "batch_id": None, "committed_batch": None,
        }
        | values
    )  # fmt: skip


OTHER_RECIPE = {"profile_hash": "r0", "fingerprint": fingerprint("c1", "r0")}
OTHER_VERSION = {"version": "v0", "fingerprint": fingerprint("c0", "r1")}
OTHER_BOXES = {"fingerprint": fingerprint("c0", "r1")}
NEWER = {"version": "v2", "fingerprint": fingerprint("c2", "r1"), "updated_at": NOON + timedelta(hours=1)}

CASES = [
    # what the state knows, then the action in the modes missing, failed, all
    (None, "register", None, "register"),
    (_known("done", **OTHER_RECIPE), "register", None, "register"),
    (_known("done", **OTHER_VERSION), "register", None, "register"),
    (_known("done", **OTHER_BOXES), "register", None, "register"),
    (_known("failed", **OTHER_RECIPE), "register", None, "register"),
    (_known("done", **NEWER), None, None, None),
    (_known("quarantined"), "register", "register", "register"),
    (_known("pending"), "claim", None, "claim"),
    (_known("failed"), None, "requeue", "requeue"),
    (_known("dead"), None, "requeue", "requeue"),
    (_known("done"), None, None, "requeue"),
    (_known("claimed"), None, None, None),
]


@pytest.mark.parametrize(("known", "missing", "failed", "everything"), CASES)
def test_each_case_is_decided_as_the_table_says(
    known: ImageState | None, missing: str | None, failed: str | None, everything: str | None
) -> None:
    modes = ("missing", "failed", "all")
    decided = [decide(_row(), "r1", known, Selection("cams", mode, {"p": "r1"}, None))[0] for mode in modes]
    assert decided == [missing, failed, everything]


OTHER_METADATA = [
    # metadata that the state knows, the row's update after it in hours, announced now; then the action by mode
    ({"metadata": "m0"}, 0, True, ("register", None, "requeue")),
    ({"metadata": "m0"}, 1, False, ("register", None, "requeue")),
    ({"metadata": "m0"}, 0, False, (None, None, "requeue")),  # a landed manifest was registered before
    ({"metadata": "m0"}, -1, True, (None, None, "requeue")),
    ({"metadata": "m1"}, 1, True, (None, None, "requeue")),
    ({"metadata": None}, 1, True, (None, None, "requeue")),  # by an older cropline, with equal columns
    ({"metadata": None, "store_id": "t"}, 0, False, ("register", None, "requeue")),
]


@pytest.mark.parametrize(("known", "hours", "now", "decided"), OTHER_METADATA)
def test_corrected_metadata_is_decided_as_the_table_says(
    known: dict[str, Any], hours: int, now: bool, decided: tuple[str | None, ...]
) -> None:
    row = _row(metadata="m1", updated_at=NOON + timedelta(hours=hours), announced_now=now)
    modes = ("missing", "failed", "all")
    found = [decide(row, "r1", _known("done", **known), Selection("cams", mode, {"p": "r1"}, None)) for mode in modes]
    assert tuple(action for action, _ in found) == decided
    if decided[0]:
        assert found[0][1] == "metadata changed"


@pytest.mark.parametrize("state", ["failed", "dead", "done"])
def test_corrected_metadata_of_claimed_work_is_left_to_the_run_that_has_it(state: str) -> None:
    row = _row(metadata="m1", announced_now=True)
    selection = Selection("cams", "missing", {"p": "r1"}, None)
    assert decide(row, "r1", _known("claimed", metadata="m0"), selection)[0] is None
    assert decide(row, "r1", _known(state, metadata="m0"), selection) == ("register", "metadata changed")


@pytest.mark.parametrize(("seconds", "action"), [(-1, "requeue"), (0, None), (1, None)])
def test_what_a_backfill_of_everything_has_done_is_not_done_again(seconds: int, action: str | None) -> None:
    selection = Selection("cams", "all", {"p": "r1"}, done_since=NOON)
    done = _known("done", since=NOON + timedelta(seconds=seconds))
    assert decide(_row(), "r1", done, selection)[0] == action


def _item(image_id: str, at: datetime, **values: Any) -> dict[str, Any]:
    moment = at.isoformat()
    return {
        "id": image_id, "etag": "v1", "captured_at": moment, "updated_at": moment, "store_id": "s1",
        "camera_id": "c1", "bytes": 5, "boxes": [{"id": "b", "xmin": 0.1, "ymin": 0.1, "xmax": 0.2, "ymax": 0.2}],
    } | values  # fmt: skip


def _choose(
    tmp_path: Path, *pages: list[dict[str, Any]], photos: Photos = EVERYTHING, bad: tuple[str, ...] = ()
) -> Chosen:
    """Choose among landed rows; rows whose version is in ``bad`` break a rule."""

    def judge(rows: pa.Table) -> dict[int, list[str]]:
        assert rows["row"].to_pylist() == list(range(len(rows)))
        return {n: ["broken"] for n, version in enumerate(rows["version"].to_pylist()) if version in bad}

    found = polled([*pages], API, photos, tmp_path, None)
    return choose(found.listings, MEMORY, photos, NOON + timedelta(days=1), judge)


def _accounted(chosen: Chosen) -> bool:
    return chosen.read == len(chosen.good) + len(chosen.bad) + chosen.outside.total()


def test_the_window_is_half_open_and_of_capture_times(tmp_path: Path) -> None:
    items = [_item(f"at{n}", NOON + timedelta(hours=n)) for n in range(4)]
    window = Photos(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=3))
    chosen = _choose(tmp_path, items, photos=window)
    assert [row.image_id for row in chosen.good] == ["at1", "at2"]
    assert _accounted(chosen)


def test_stores_and_cameras_select(tmp_path: Path) -> None:
    items = [_item("a", NOON), _item("b", NOON, store_id="s2"), _item("c", NOON, camera_id="c2")]
    chosen = _choose(tmp_path, items, photos=Photos(stores=["s1"], cameras=["c1"]))
    assert [row.image_id for row in chosen.good] == ["a"]
    assert chosen.outside == {"other store": 1, "other camera": 1, "announced again": 0, "newer version": 0}


def test_rows_without_an_id_or_a_time_are_counted(tmp_path: Path) -> None:
    chosen = _choose(tmp_path, [_item("a", NOON, captured_at=None), _item("b", NOON, id=None)])
    assert +chosen.outside == {"no capture time": 1, "no image id": 1}


def test_contradicting_rows_of_one_version_and_time_are_counted_apart_from_older_ones(tmp_path: Path) -> None:
    items = [_item("a", NOON), _item("a", NOON, boxes=[]), _item("a", NOON - timedelta(hours=1), etag="old")]
    chosen = _choose(tmp_path, items)
    assert +chosen.outside == {AMBIGUOUS: 1, "newer version": 1}


def test_the_newest_good_version_of_a_photo_counts(tmp_path: Path) -> None:
    later = (NOON + timedelta(hours=1)).isoformat()
    items = [
        _item("a", NOON, etag="old"), _item("a", NOON, etag="new", updated_at=later),
        _item("b", NOON, etag="old"), _item("b", NOON, etag="bad", updated_at=later),
        _item("c", NOON, etag="bad"), _item("c", NOON, etag="bad too", updated_at=later),
        _item("d", NOON), _item("d", NOON),
    ]  # fmt: skip
    chosen = _choose(tmp_path, items[:3], items[3:], bad=("bad", "bad too"))
    assert sorted((row.image_id, row.version) for row in chosen.good) == [("a", "new"), ("b", "old"), ("d", "v1")]
    assert [(row.image_id, row.version, row.broken) for row in chosen.bad] == [("c", "bad too", ("broken",))]
    assert +chosen.outside == {
        "newer version": 1, "bad, an older version is good": 1, "bad, as is the newer version": 1, "announced again": 1,
    }  # fmt: skip
    assert _accounted(chosen)


def test_rows_of_several_listings_keep_their_places(tmp_path: Path) -> None:
    keys = []
    for number in range(2):
        path = tmp_path / f"{number}.parquet"
        items = [_item(f"{number}-{n}", NOON, boxes=[{}] * n) for n in range(3)]
        manifest.write_rows((manifest.manifest_row(n, item, API) for n, item in enumerate(items)), path)
        keys.append(manifest.land(path, "cams", "2026-11-22", MEMORY))
    chosen = choose([Listing(key, None) for key in keys], MEMORY, Photos(), NOON + timedelta(days=1), lambda _: {})
    assert sorted((row.listing, row.row, row.image_id, row.boxes) for row in chosen.good) == [
        (listing, row, f"{listing}-{row}", row) for listing in range(2) for row in range(3)
    ]


class TestReadingTheApi:
    """How far the listing is read."""

    def _read(self, tmp_path: Path, photos: Photos, pages: list[list[dict[str, Any]]], calls: int | None) -> Announced:
        return polled(iter(pages), API, photos, tmp_path, calls)

    def _pages(self, hours: list[int]) -> list[list[dict[str, Any]]]:
        return [[_item(f"i{hour}", NOON + timedelta(hours=hour))] for hour in hours]

    def test_a_sorted_listing_is_read_until_a_day_past_the_window(self, tmp_path: Path) -> None:
        window = Photos(until=NOON + timedelta(hours=2))
        found = self._read(tmp_path, window, self._pages([0, 1, 26, 27, 28]), None)
        assert (found.calls, found.complete) == (4, True)

    def test_an_unsorted_listing_is_read_to_its_end(self, tmp_path: Path) -> None:
        window = Photos(until=NOON + timedelta(hours=2))
        assert self._read(tmp_path, window, self._pages([1, 0, 48, 1]), None).calls == 4

    def test_a_limit_of_calls_leaves_it_incomplete(self, tmp_path: Path) -> None:
        found = self._read(tmp_path, Photos(), self._pages([0, 1, 2]), 2)
        assert (found.calls, found.items, found.complete) == (2, 2, False)

    def test_it_begins_a_little_before_the_window(self) -> None:
        assert start_of(Photos(since=NOON), API) == "2026-11-22T11:50:00+00:00"
        assert start_of(Photos(), API) == API.start


def test_manifests_that_ended_before_the_window_are_not_read() -> None:
    spec = StoreSpec("memory:///landed")
    from cropline.core import storage

    for day in ("2026-11-01", "2026-11-20", "2026-11-22"):
        storage.write(spec, f"manifests/other/{day}/x.parquet", b"")
    found = landed(spec, "other", Photos(since=NOON))
    assert [listing.key for listing in found.listings] == [
        "manifests/other/2026-11-20/x.parquet", "manifests/other/2026-11-22/x.parquet",
    ]  # fmt: skip


def _works(count: int, profiles: int = 1, boxes: int = 3) -> list[WorkItem]:
    return [
        WorkItem(f"i{n:03}", f"p{p}", "new", "register", NOON + timedelta(hours=n), boxes, 1_000)
        for n in range(count)
        for p in range(profiles)
    ]


def test_work_items_are_ordered_by_capture_and_those_without_a_time_come_last() -> None:
    work_items = [*_works(3), WorkItem("none", "p0", "new", "register", None, 1, 1)]
    assert [work.image_id for work in ordered(work_items, "newest")] == ["i002", "i001", "i000", "none"]
    assert [work.image_id for work in ordered(work_items, "oldest")] == ["i000", "i001", "i002", "none"]


LIMITS = [
    (Limits(), 7, None),
    (Limits(max_batches=2), 6, "batches: 2 of 2 are spent"),
    (Limits(max_batches=3), 7, None),
    (Limits(images=4), 4, "images: 4 of 4 are spent"),
    (Limits(images=7), 7, None),
    (Limits(puts=13), 2, "PUTs: 12 of 13 are spent"),
    (Limits(bytes=3_500), 3, "bytes: 3,000 of 3,500 are spent"),
    (Limits(bytes=1), 0, "bytes: 0 of 1 are spent"),
]


@pytest.mark.parametrize(("limits", "images", "stopped"), LIMITS)
def test_slices_end_where_a_limit_ends(limits: Limits, images: int, stopped: str | None) -> None:
    budget = Budget(limits)
    parts = list(slices(_works(7, profiles=2), 3, budget))
    assert sum(part.count for part in parts) == images
    assert all(part.count <= 3 for part in parts)
    assert budget.stopped == stopped


@given(
    count=st.integers(0, 40),
    size=st.integers(1, 10),
    limits=st.builds(
        Limits,
        max_batches=st.none() | st.integers(1, 9),
        images=st.none() | st.integers(1, 50),
        puts=st.none() | st.integers(1, 300),
        bytes=st.none() | st.integers(1, 50_000),
    ),
)
def test_no_limit_is_passed_and_whole_photos_are_done_in_order(count: int, size: int, limits: Limits) -> None:
    work_items = _works(count, profiles=2)
    budget = Budget(limits)
    parts = list(slices(work_items, size, budget))
    done = [work for part in parts for work in part.work_items]
    assert done == work_items[: len(done)]
    assert len(done) % 2 == 0, "both profiles of a photo or none"
    spent = {"max_batches": len(parts), "images": len(done) // 2, "puts": 3 * len(done), "bytes": 500 * len(done)}
    assert all(getattr(limits, name) is None or value <= getattr(limits, name) for name, value in spent.items())
    assert (budget.stopped is None) == (len(done) == len(work_items))


def test_a_dry_run_reports_days_costs_and_reasons() -> None:
    plan = Plan(
        ordered([*_works(30), WorkItem("x", "p0", "other recipe", "register", NOON, 2, None)], "newest"),
        left=Counter({"done": 5}),
        outside=Counter({"other | store": 2}),
        calls=4,
        listings=[Listing(None, Path("x"))],
        note="left early",
    )
    estimated = estimate(plan, Limits(images=25), batch_images=10, last=[])
    assert (estimated.wanted, estimated.cost.images, estimated.cost.crops, estimated.cost.batches) == (31, 25, 75, 3)
    assert estimated.cost.puts == 75 + 3 * 3
    assert [(day.day, day.images, day.boxes) for day in estimated.days] == [
        ("2026-11-23", 18, 54),
        ("2026-11-22", 7, 21),
    ]
    text = plan_markdown("plan", estimated)
    assert "75 crops from 25 photos of 31 wanted photos, until a limit stops it" in text
    assert "| done | photo and profile | 5 |" in text
    assert "other \\| store" in text
    assert "left early" in text


def test_progress_counts_each_work_item_once_and_ends_with_none_left() -> None:
    work_items = _works(30)
    progress = Progress(work_items)
    parts = list(slices(work_items, 20, Budget(Limits())))
    progress.settle(parts[0], {(work.image_id, work.profile): "done" for work in parts[0].work_items[:18]})
    assert [(day.day, day.done, day.elsewhere, day.left) for day in progress.days] == [
        ("2026-11-23", 6, 2, 10), ("2026-11-22", 12, 0, 0),
    ]  # fmt: skip
    progress.settle(parts[1], {(work.image_id, work.profile): "dead" for work in parts[1].work_items})
    assert (progress.left, progress.percent) == (0, 100.0)
    assert "18 of 30 done, 10 failed, 0 left; 2 of 2 days complete" in progress_markdown("t", progress, None)


def test_a_backfill_that_finds_nothing_says_so_without_an_empty_table() -> None:
    assert progress_markdown("t", Progress([]), None) == "## t\n\n**nothing to do**\n"


def test_days_are_of_capture_in_utc() -> None:
    east = datetime.fromisoformat("2026-11-23T01:00:00+02:00")
    assert [day.day for day in by_day([WorkItem("a", "p", "new", "register", east, 1, 1)])] == ["2026-11-22"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"since": NOON, "until": NOON}, "'since' must be before 'until'"),
        ({"since": datetime(2026, 11, 22, 13), "until": NOON}, "'since' must be before 'until'"),
        ({"store": ["s1"]}, "Extra inputs are not permitted"),
        ({"stores": [""]}, "at least 1 character"),
    ],
)
def test_contradictions_and_unknown_names_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Photos(**fields)


def test_a_backfill_is_identified_by_its_selection_not_by_its_limits() -> None:
    one = backfill_id("cams", Photos(since=NOON, stores=["a", "b"]), "api", "all")
    same = Photos(since=datetime.fromisoformat("2026-11-22T13:00:00+01:00"), stores=["b", "a"])
    assert backfill_id("cams", same, "api", "all") == one
    assert backfill_id("cams", same, "api", "missing") != one
    assert backfill_id("cams", Photos(since=NOON), "api", "all") != one


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (9_000, "2.5 h")])
def test_durations_are_printed_in_readable_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize("told", ["2026", "1795305600", 20261122, 1795305600.0, "yesterday", "", True])
def test_a_time_is_iso_8601_and_numbers_are_not_taken_for_seconds_since_1970(told: Any) -> None:
    for model, field in ((Photos, "since"), (Photos, "until"), (Erasing, "before")):
        with pytest.raises(ValidationError, match="not a time in ISO 8601"):
            model.model_validate({field: told})


@pytest.mark.parametrize("told", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:59", "0001-01-01"])
def test_a_time_at_the_end_of_the_calendar_is_refused(told: str) -> None:
    """In UTC, or less an overlap, it would be out of range."""
    for model, field in ((Photos, "since"), (Photos, "until"), (Erasing, "before")):
        with pytest.raises(ValidationError, match="must be in the years 1900 to 9000"):
            model.model_validate({field: told})


@pytest.mark.parametrize("told", ["2026-11-22", "20261122", "2026-11-22T01:00:00+01:00", "2026-11-22T00:00:00.000Z"])
def test_a_time_without_an_offset_is_utc(told: str) -> None:
    assert Erasing.model_validate({"before": told}).text == '{"before":"2026-11-22T00:00:00+00:00"}'
