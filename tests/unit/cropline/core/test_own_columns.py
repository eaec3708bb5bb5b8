"""Names and types of the columns of steps and scripts."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cropline.core.own_columns import OwnColumn, name_in_catalogue, step_columns, stored_type


def test_a_column_of_several_profiles_is_one_and_names_of_ours_get_the_profile_first() -> None:
    found = step_columns(
        [("sku", {"sku": "string", "score": "double"}), ("shelf-2", {"sku": "string", "Score": "int"})]
    )
    assert found == (
        OwnColumn("sku", "string", (("sku", "sku"), ("shelf-2", "sku"))),
        OwnColumn("sku_score", "double", (("sku", "score"),)),
        OwnColumn("shelf_2_Score", "int", (("shelf-2", "Score"),)),
    )
    assert name_in_catalogue("p", "embedding") == "embedding"


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([("a", {"x": "int"}), ("b", {"x": "long"})], "b: a step returns x as long, another x as int"),
        ([("a", {"x": "int"}), ("b", {"X": "int"})], "another x as int; rename one"),
        ([("image", {"width": "int"})], "image: the catalogue cannot have the column 'width'"),
        ([("9", {"width": "int"})], "9: the catalogue cannot have the column 'width'"),
        ([("a", {"x": "int"}), ("a", {"x": "string"})], "a: a step returns x as string, another x as int"),
    ],
)
def test_a_clash_is_refused(steps: list[tuple[str, dict[str, str]]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        step_columns(steps)


def test_a_scripts_column_is_stored_in_the_nearest_type_or_not_at_all() -> None:
    ns = pa.timestamp("ns")
    assert stored_type(pa.dictionary(pa.int8(), pa.large_string())) == pa.string()
    assert stored_type(ns) == stored_type(pa.timestamp("s", "Europe/Berlin")) == pa.timestamp("us", "UTC")
    assert stored_type(pa.large_list(pa.uint16())) == pa.list_(pa.int32())
    assert stored_type(pa.decimal128(10, 2)) == pa.decimal128(10, 2)
    for kind in (pa.null(), pa.time64("us"), pa.duration("s"), pa.uint64(), pa.struct([("a", ns)]), pa.float16()):
        assert stored_type(kind) is None, kind
