"""Batches are divided by bytes and boxes, and go to a cluster when the backlog is large."""

import pyarrow as pa

from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings
from fugue_jobs.engines import plan
from fugue_jobs.engines.manifests import sizes
from tests.contract import jobs

TWO = {"a": Profile(), "b": Profile(format="png")}


def tables(count: int, boxes: int, size: int | None, profiles: dict[str, Profile] = TWO) -> tuple[pa.Table, pa.Table]:
    box = jobs.box("x", 0, 0, 1, 1)
    rows = [jobs.image(i, "http://h/x.jpg", [box] * boxes, bytes=size) for i in range(count)]
    return sizes(jobs.images(rows)), jobs.claims(rows, profiles)


def test_cost_counts_each_box_for_each_profile() -> None:
    assert plan.cost(*tables(10, 37, 2_600_000)).crops == 740


def test_a_batch_of_the_same_images_is_cut_into_more_parts_when_it_has_more_bytes_or_boxes() -> None:
    def parts(boxes: int, size: int) -> int:
        return plan.partitions(plan.cost(*tables(200, boxes, size)), 0)

    assert parts(2, 100_000) < parts(37, 100_000) < parts(37, 10_000_000)


def test_a_batch_of_slow_formats_is_cut_into_more_parts_and_one_of_copied_bits_into_fewer() -> None:
    profiles = [
        Profile(lossless=True),
        Profile(),
        Profile(format="webp", effort=0),
        Profile(format="avif"),
        Profile(format="png", effort=7),
        Profile(format="webp", lossless=True, effort=3),
        Profile(format="avif", effort=9),
    ]
    seconds = [plan.cost(*tables(100, 37, 2_600_000, {"a": profile})).core_s for profile in profiles]
    assert seconds == sorted(seconds)
    assert round(seconds[1], 1) == 4.3
    assert seconds[3] > 30 * seconds[1]
    both = plan.cost(*tables(100, 37, 2_600_000, {"a": profiles[1], "b": profiles[3]})).core_s
    photos = plan.cost(*tables(100, 1, 2_600_000, {"a": profiles[1]})).core_s
    assert 0.9 * photos < seconds[1] + seconds[3] - both < photos, "the photos themselves cost once"


def test_a_recipe_that_cannot_be_read_costs_something() -> None:
    counts, claimed = tables(1, 1, 1_000)
    work = [[each | {"recipe": text} for each in claimed["work"][0].as_py()[:1]] for text in ("[1]", "", "{}")]
    for one in work:
        column = pa.array([one], claimed.schema.field("work").type)
        odd = claimed.set_column(claimed.schema.get_field_index("work"), "work", column)
        assert plan.cost(counts, odd).core_s > 0


def test_images_of_unknown_size_cost_like_ordinary_ones_and_those_without_boxes_nothing() -> None:
    assert plan.cost(*tables(4, 3, None)) == plan.cost(*tables(4, 3, 2_600_000))
    assert plan.cost(*tables(4, 0, 2_600_000)).core_s == 0
    assert plan.cost(*tables(4, 0, 2_600_000)).images == 4


def test_unclaimed_images_cost_nothing() -> None:
    counts, claimed = tables(10, 3, 1_000_000)
    assert plan.cost(counts, claimed.slice(0, 4)).crops == 4 * 3 * 2


def test_there_are_never_more_parts_than_images_nor_fewer_than_one() -> None:
    assert plan.partitions(plan.Cost(3, 10_000, 9_000.0), 0) == 3
    assert plan.partitions(plan.Cost(0, 0, 0.0), 0) == 1
    assert plan.partitions(plan.Cost(100, 100, 9_000.0), 8) == 8


def test_executors_are_bounded_by_the_setting_else_by_what_waits() -> None:
    batch = plan.Cost(500, 18_500, 80.0)
    chosen = EngineSettings.model_validate({"spark": {"catch_up_s": 300}}).spark
    assert plan.most_executors(batch, 0, chosen) == 1
    assert plan.most_executors(batch, 99_500, chosen) == 54  # 16,000 core seconds in 300 s
    wide = EngineSettings.model_validate({"spark": {"catch_up_s": 300, "executor_cores": 8}}).spark
    assert plan.most_executors(batch, 99_500, wide) == 7
    fixed = EngineSettings.model_validate({"spark": {"max_executors": 3}}).spark
    assert plan.most_executors(batch, 99_500, fixed) == 3


def test_auto_cuts_a_small_backlog_in_process_and_sends_a_burst_to_the_cluster() -> None:
    auto = EngineSettings.model_validate({"auto": {"images": 1_000, "boxes": 40_000}}).auto
    calm, burst, dense = plan.Cost(500, 18_500, 80.0), plan.Cost(500, 18_500, 80.0), plan.Cost(500, 40_001, 150.0)
    assert plan.choose(calm, 500, auto) == ("native", "small: 1,000 images wait, at most 1,000 are cut in process")
    assert plan.choose(burst, 501, auto) == ("spark", "burst: 1,001 images wait, more than 1,000")
    assert plan.choose(dense, 0, auto) == ("spark", "burst: 40,001 boxes in the batch, more than 40,000")


def test_a_batch_is_divided_into_pieces_of_a_bounded_number_of_crops() -> None:
    counts, claimed = tables(10, 3, 1_000_000)  # six crops each
    found = plan.pieces(counts, claimed, most_crops=20)
    assert [piece.num_rows for piece in found] == [3, 3, 3, 1]
    assert pa.concat_tables(found).equals(claimed)
    assert [piece.num_rows for piece in plan.pieces(counts, claimed, most_crops=1)] == [1] * 10
    assert plan.pieces(counts, claimed) == [claimed]
    assert [piece.num_rows for piece in plan.pieces(counts, claimed.slice(0, 0))] == [0]
