"""A hostile value in JSON spoils only itself."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropline.config.settings import ApiSettings
from cropline.core.errors import ApiError
from cropline.core.keys import canonical_json
from cropline.intake import manifest
from cropline.intake.json_bytes import LEFT_OUT, read_json

API = ApiSettings(url="http://cameras.example")
GOOD = b'{"id": "good", "boxes": []}'
HOSTILE = {
    "nested 1,000 deep": b"[" * 1_000 + b"]" * 1_000,
    "nested 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep, with brackets in strings": b'["]]]]",' * 1_000 + b"1" + b"]" * 1_000,
    "deep, with escaped quotes": b'["\\"]]]]\\\\",' * 1_000 + b"1" + b"]" * 1_000,
    "deep, in a page with escaped letters": b'"Z\\u00fcrich", "y": ' + b"[" * 1_000 + b"]" * 1_000,
    "a number of 5,000 digits": b"9" * 5_000,
    "a number of a million digits": b"-" + b"1" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_value_that_cannot_be_read_is_left_out_with_its_size_and_digest(name: str) -> None:
    value = HOSTILE[name]
    page = read_json(b'{"images": [' + GOOD + b', {"id": "bad", "x": ' + value + b"}, " + GOOD + b"]}")
    good, bad, other = page["images"]
    assert good == other == {"id": "good", "boxes": []}
    row = manifest.manifest_row(1, bad, API)
    assert (row["image_id"], row["unreadable"]) == ("bad", ["item"])
    assert "sha256" in row["raw"]
    assert len(row["raw"]) < 20_000


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\xef\xbb\xbf[1]", [1]),
        ('["ü"]'.encode("utf-16"), ["ü"]),
        (b'["a\nb\x01"]', ["a\nb\x01"]),
        (b'["\xff\xfe ok"]', ["\udcff\udcfe ok"]),
        (b'["\\ud800"]', ["\ud800"]),
        (b"[NaN, Infinity, -Infinity]", None),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"1e999", float("inf")),
        (b"[" * 100 + b"]" * 100, None),
    ],
)
def test_odd_json_is_read(data: bytes, value: Any) -> None:
    got = read_json(data)
    assert value is None or got == value


def test_an_answer_that_names_its_charset_is_read_by_it() -> None:
    assert read_json('["Käse"]'.encode("latin-1"), "ISO-8859-1") == ["Käse"]
    assert read_json(b'["x"]', "no-such-charset") == ["x"]
    assert read_json(b'["x"]', "base64") == ["x"]


@pytest.mark.parametrize("data", [b"", b"<html>", b"[1,", b"{'a': 1}", b"\x00", b"[1] [2]", b"]" * 1_000, b'"\\'])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the caller adds what it was reading
        read_json(data)


def test_a_large_item_keeps_its_small_fields() -> None:
    item = {"id": "i1", "note": "x" * 10_000, "boxes": [{"id": 1}]}
    small = manifest.bounded(item, 5_000)
    assert (small["id"], small["boxes"]) == ("i1", [{"id": 1}])
    assert small["note"].startswith(LEFT_OUT)
    assert manifest.bounded(item, 50_000) is item
    many = {f"f{number}": "x" * 60 for number in range(1_000)}
    assert str(manifest.bounded(many, 5_000)).startswith(LEFT_OUT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=4), children, max_size=4),
    max_leaves=12,
)
PATHS = st.sampled_from([
    "id", "length(@)", "keys(@)", "boxes[0]", "sort(boxes)", "join('-', @.id)", "to_number(id)", "avg(boxes[].x)", "&id", "`5`",
    "max_by(boxes, &x)", "boxes[].{id: id}", "to_string(@)", "merge(@, @)", "abs(id)", "@", "*", "boxes[?x > `1`]", "sum(*)",
])  # fmt: skip


@settings(max_examples=75, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "etag", "url", "updated_at", "boxes", "x"), JSON)) | JSON,
    PATHS,
    PATHS,
)
def test_no_item_and_no_path_raises(item: Any, path: str, other: str) -> None:
    fields = API.fields.model_copy(update={"image_id": path, "boxes": other, "updated_at": path, "xmin": other})
    api = API.model_copy(update={"fields": fields, "time_format": "epoch_s" if len(path) % 2 else "iso"})
    read = read_json(json.dumps(item).encode())
    row = manifest.manifest_row(0, manifest.bounded(read, 4_000_000), api)
    manifest.identity(read, api)
    manifest.updated_at(read, api)
    json.loads(canonical_json(row["unreadable"]))
    assert row["raw"] is not None or not row["unreadable"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:0123456789.eE+-ntfu\\ ', max_size=60).map(str.encode))
def test_no_bytes_raise_anything_but_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_json(data)


SELECTORS = st.sampled_from(
    [
        "images",
        "$",
        "$..images",
        "a[*].b[*]",
        "images[*]",
        "$.images[?(@.id > 3)]",
        "$.images[0:2]",
        "*",
        "a.b.c",
        "images.*",
    ]
)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["images", "a", "next_cursor", "total", "errors", "data", "has_more"]), JSON)
    | JSON,
    SELECTORS,
    SELECTORS,
)
def test_no_page_raises_anything_but_the_known_errors(body: Any, selector: str, path: str) -> None:
    from cropline.intake.sources import rest_answer
    from cropline.intake.sources.rest_wire import Answer

    answer = Answer("http://cameras.example/v1/images", {}, body)
    for paginator in ("cursor", "next_url"):
        api = ApiSettings(
            url="http://cameras.example", data_selector=selector, paginator=paginator, cursor_path=path,
            next_url_path=path, total_path=path, has_more_path="has_more",
        )  # fmt: skip
        for read in (rest_answer.items_of, rest_answer.total_of, rest_answer.following, rest_answer.hint_of_more):
            with contextlib.suppress(ApiError):
                read(answer, api)
