"""Box columns, compared with a plain Python loop over each image's boxes."""

import math
from typing import Any

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cropline.core.schemas import BOX
from expectations.boxes import box_columns

CORNERS = ("xmin", "ymin", "xmax", "ymax")

# Few distinct values, so that equal, inverted and empty boxes are frequent.
COORDINATES = st.sampled_from(
    [None, 0.0, -0.0, 0.1, 0.5, 1.0, 1.5, 1.5000001, -0.5, -0.6, 57.0, 1e-300, 1e308, -1e308, math.nan, math.inf]
)
BOXES = st.one_of(
    st.none(),
    st.builds(
        lambda corners, name, label: (
            dict(zip(CORNERS, corners, strict=True)) | {"box_id": name, "label": label, "score": None}
        ),
        st.tuples(*[COORDINATES] * 4),
        st.sampled_from([None, "a", "b", ""]),
        st.sampled_from([None, "x", "y"]),
    ),
)
IMAGES = st.lists(st.one_of(st.none(), st.lists(BOXES, max_size=6)), max_size=8)


def plainly(boxes: list[dict[str, Any] | None] | None) -> dict[str, Any]:
    """Count the faulty boxes of one upright, normalised image by kind."""
    count: dict[str, Any] = dict.fromkeys(
        ("not_finite", "out_of_range", "inverted", "without_area", "ids_repeated", "without_id", "repeated"), 0
    )
    ids, rectangles = set(), set()
    for box in boxes or []:
        box = box or dict.fromkeys((*CORNERS, "box_id", "label"))
        corners = [box[name] for name in CORNERS]
        count["ids_repeated"] += box["box_id"] is not None and box["box_id"] in ids
        count["without_id"] += box["box_id"] is None
        ids.add(box["box_id"])
        # A missing number equals a missing number; 0 equals -0.
        rectangle = (*("none" if c is None or math.isnan(c) else c for c in corners), box["label"])
        count["repeated"] += rectangle in rectangles
        rectangles.add(rectangle)
        if any(c is None or not math.isfinite(c) for c in corners):
            count["not_finite"] += 1
            continue
        xmin, ymin, xmax, ymax = corners
        count["out_of_range"] += not all(-0.5 <= c <= 1.5 for c in corners)
        count["inverted"] += xmin > xmax or ymin > ymax
        count["without_area"] += not abs(xmax - xmin) * abs(ymax - ymin) > 0
    return count


ZEROS = [dict.fromkeys(CORNERS, zero) | {"box_id": None, "label": None, "score": None} for zero in (0.0, -0.0)]


@settings(max_examples=150, deadline=None)
@example([ZEROS], 0)
@given(IMAGES, st.integers(0, 3))
def test_faulty_boxes_are_counted_as_the_plain_way_counts_them(images: list[Any], cut: int) -> None:
    table = pa.table(
        {
            "boxes": pa.array(images, pa.list_(BOX)),
            "coordinates": pa.array(["normalised"] * len(images), pa.string()),
            "orientation": pa.array(["upright"] * len(images), pa.string()),
            "width": pa.array([None] * len(images), pa.int64()),
            "height": pa.array([None] * len(images), pa.int64()),
        }
    ).slice(cut)
    columns = {name: list(values) for name, values in box_columns(table).items()}
    images = images[cut:]
    assert [None if math.isnan(n) else n for n in columns.pop("boxes")] == [
        None if b is None else len(b) for b in images
    ]
    names = {name: "box_ids_repeated" if name == "ids_repeated" else f"boxes_{name}" for name in plainly([])}
    assert columns == {column: [plainly(boxes)[name] for boxes in images] for name, column in names.items()}
