"""Verdicts on whole manifests: shape, size, budget, cost and side effects."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from cropline.config.expectations import ExpectationSettings
from cropline.core.errors import ManifestError
from cropline.core.schemas import MANIFEST
from expectations.gx import _frames, build_suite, import_gx, run_suite
from expectations.manifest import Check, Rule
from expectations.validate import Verdict, validate_manifest
from tests.unit.expectations.rows import NOW, item, landed

RULES = ExpectationSettings()


def judge(manifest: pa.Table) -> Verdict:
    return validate_manifest(manifest, RULES, run_name="unit", now=NOW)


@pytest.mark.parametrize("column", MANIFEST.names)
def test_a_missing_column_is_critical(column: str) -> None:
    verdict = judge(landed([item(0), item(1, id=None)]).drop_columns([column]))
    assert verdict.critical == ["columns_present"]
    assert verdict.bad_rows == {}


def test_a_column_of_another_type_is_critical() -> None:
    manifest = landed([item(0)])
    manifest = manifest.set_column(manifest.schema.get_field_index("width"), "width", pa.array(["wide"]))
    assert judge(manifest).critical == ["columns_typed"]


def test_boxes_without_a_corner_are_critical() -> None:
    manifest = landed([item(0)])
    boxes = pa.array([[{"box_id": "b", "xmin": 0.1}]])
    manifest = manifest.set_column(manifest.schema.get_field_index("boxes"), "boxes", boxes)
    assert judge(manifest).critical == ["columns_typed"]


def test_further_columns_and_another_order_are_no_fault() -> None:
    manifest = landed([item(0), item(1, id=None)])
    manifest = manifest.select(list(reversed(manifest.column_names))).append_column("more", pa.array([1, 2]))
    verdict = judge(manifest)
    assert (verdict.critical, verdict.bad_rows) == ([], {1: ["image_id_present"]})


@pytest.mark.parametrize("keys", [[0, 0], [0, None]])
def test_rows_without_a_unique_key_are_critical(keys: list[int | None]) -> None:
    manifest = landed([item(0), item(1)])
    manifest = manifest.set_column(0, "row", pa.array(keys, pa.int64()))
    assert judge(manifest).critical == ["row_unique" if None not in keys else "row_present"]


def test_rows_are_identified_by_key_not_by_position() -> None:
    manifest = landed([item(0), item(1, id=None), item(2), item(3, url=None)])
    assert judge(manifest.take([3, 2, 1, 0])).bad_rows == {1: ["image_id_present"], 3: ["url_present"]}


def test_chunks_and_slices_change_nothing() -> None:
    manifest = landed(
        [item(n, boxes=None) if n % 3 == 0 else item(n, boxes=[]) if n % 3 == 1 else item(n) for n in range(12)]
    )
    parts = pa.concat_tables([manifest.slice(0, 5), manifest.slice(5, 4), manifest.slice(9)])
    assert judge(parts).bad_rows == judge(manifest).bad_rows == {n: ["boxes_present"] for n in (0, 3, 6, 9)}
    assert list(judge(manifest.slice(5, 3)).bad_rows) == [6]


@pytest.mark.parametrize("boxes", [None, []])
def test_a_manifest_without_any_box_is_judged(boxes: list[object] | None) -> None:
    assert len(judge(landed([item(n, boxes=boxes) for n in range(3)])).bad_rows) == (3 if boxes is None else 0)


def test_an_empty_manifest_is_good() -> None:
    verdict = judge(landed([]))
    assert (verdict.bad_rows, verdict.critical, verdict.rows, verdict.bad_fraction) == ({}, [], 0, 0.0)
    assert all(outcome.success for outcome in verdict.outcomes)


@pytest.mark.parametrize(("bad", "rows", "exceeds"), [(5, 20, False), (6, 20, True), (19, 19, False), (0, 20, False)])
def test_the_budget_is_a_share_of_manifests_that_are_big_enough(bad: int, rows: int, exceeds: bool) -> None:
    verdict = Verdict({row: ["url_present"] for row in range(bad)}, [], [], rows, None)
    assert verdict.exceeds_budget(ExpectationSettings(max_quarantined_fraction=0.25, min_rows_for_budget=20)) is exceeds


def test_validation_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    judge(landed([item(0), item(1, id=None)]))
    assert capfd.readouterr() == ("", "")


def test_an_expectation_that_cannot_be_evaluated_is_no_pass() -> None:
    import pandas as pd

    rules = (Rule("age_known", "age", "age", Check("between", low=0), "The age is known"),)
    with pytest.raises(ManifestError, match="age_known could not be evaluated"):
        run_suite("unit", pd.DataFrame({"row": [0]}), rules)


@pytest.mark.parametrize("rows", [4, 0])
def test_rules_that_hold_are_counted_as_great_expectations_counts_them(rows: int) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "row": [0, 1, 2, 3],
            "age": [1.0, None, None, 3.0],
            "kind": ["a", None, "b", "a"],
            "all": ["x"] * 4,
            "none": pd.Series([None] * 4, dtype=object),
            "one": [5, 6, 7, 8],
        }
    ).head(rows)
    checks = {
        "age": Check("between", low=0),
        "kind": Check("one_of", values=("a", "b")),
        "all": Check("not_null"),
        "none": Check("null"),
        "one": Check("unique"),
    }
    rules = [Rule(column, column, column, check, column) for column, check in checks.items()]
    batch = _frames().get_batch(batch_parameters={"dataframe": frame})
    plain = batch.validate(build_suite("plain", rules), result_format="BASIC")

    run = run_suite("ours", frame, rules)
    for ours, theirs in zip(run.result.results, plain.results, strict=True):
        assert theirs.success
        names = ["element_count", "unexpected_count", "missing_count"]
        assert [ours.result.get(name) for name in names] == [theirs.result.get(name) for name in names]
        assert ours.result["unexpected_percent"] == (theirs.result["unexpected_percent"] or 0)


def test_great_expectations_is_imported_only_by_a_call() -> None:
    modules = sorted(path.stem for path in (Path(__file__).parents[3] / "expectations").glob("[a-z]*.py"))
    script = "import sys, importlib\n" + "\n".join(
        f"importlib.import_module('expectations.{name}')" for name in modules
    )
    heavy = "print(sorted({'great_expectations', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{script}\n{heavy}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_configuration_is_made_again_only_after_a_field_has_changed() -> None:
    from expectations.kinds import kinds

    import_gx()  # without the warnings that an import of its parts gives
    made = kinds()["between"](column="age", min_value=1)
    before = made.configuration
    assert made.configuration is before
    assert before.kwargs == {"column": "age", "min_value": 1}
    made.min_value = 2
    assert made.configuration.kwargs == {"column": "age", "min_value": 2}
    assert made.copy(update={"column": "size"}).configuration.kwargs == {"column": "size", "min_value": 2}


def test_threads_that_validate_at_once_judge_their_own_frames() -> None:
    import pandas as pd

    rules = (Rule("age_known", "age", "age", Check("between", low=0), "The age is known"),)
    frames = [
        pd.DataFrame({"row": [0, 1, 2], "age": [1 if number == row else -1 for row in range(3)]}) for number in range(3)
    ]
    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(lambda frame: [run_suite("age", frame, rules).broken for _ in range(5)], frames))
    assert runs == [[{"age_known": [row for row in range(3) if row != number]}] * 5 for number in range(3)]


def test_great_expectations_is_imported_without_charts_and_statistics_which_work_when_asked_for() -> None:
    script = """
import sys
from expectations.gx import import_gx
import_gx()
heavy = {"altair.vegalite", "scipy.stats._stats_py"}
print(sorted(heavy & set(sys.modules)))
import altair, scipy.stats
print(scipy.stats.norm.cdf(0), altair.Chart.__name__, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "0.5 Chart ['altair.vegalite', 'scipy.stats._stats_py']"]
