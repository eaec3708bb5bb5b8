"""Quarantine rows: everything as it was announced, except secrets."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropline.core.errors import ManifestError
from cropline.core.schemas import MANIFEST
from cropline.core.storage import write
from cropline.core.store_spec import StoreSpec
from cropline.intake import quarantine
from cropline.intake.quarantine import QUARANTINE
from expectations.quarantine import quarantine_table, scrub_json
from expectations.validate import Verdict
from tests.unit.expectations.rows import box, item, landed


def shaped(manifest: pa.Table, bad: dict[int, list[str]], docs: str | None = "file:///docs/x.html") -> pa.Table:
    table = quarantine_table(manifest, Verdict(bad, [], [], manifest.num_rows, docs), "manifests/cameras/d/m.parquet")
    table.validate(full=True)
    assert table.schema.equals(QUARANTINE)
    return table


IMAGES = st.lists(
    st.one_of(
        st.none(),
        st.lists(
            st.builds(box, id=st.sampled_from(["a", None]), xmin=st.sampled_from([None, 0.5, float("inf")])), max_size=3
        ),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(IMAGES, st.data())
def test_rows_without_secrets_stay_as_they_came(images: list[Any], data: st.DataObject) -> None:
    manifest = landed(item(n, boxes=boxes, url=f"https://photos.example/{n}") for n, boxes in enumerate(images))
    bad = {row: ["a", "b"][: 1 + row % 2] for row in sorted(data.draw(st.sets(st.integers(0, len(images) - 1))))}
    kept = shaped(manifest, bad)
    assert kept.select(MANIFEST.names).to_pylist() == [manifest.to_pylist()[row] for row in bad]
    assert kept["broken"].to_pylist() == list(bad.values())


def test_every_field_is_cleaned_of_secrets() -> None:
    secret = "https://me:hunter2@h.example/p?sig=hunter2"
    dirty = dict.fromkeys(("id", "etag", "url", "store_id", "camera_id", "sha256", "note"), secret)
    boxes = [box(id=secret, label="token=hunter2"), box(xmin="left")]
    manifest = landed([item(0, **dirty, boxes=boxes, password="hunter2", nested={"api_key": ["hunter2"]})])
    row = shaped(manifest, {0: ["url_without_user"]}).to_pylist()[0]
    assert "hunter2" not in str(row)
    assert row["url"] == "https://***@h.example/p?***"
    assert json.loads(row["raw"])["nested"] == {"api_key": "***"}
    assert json.loads(row["raw"])["boxes"][1]["xmin"] == "left"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('{"a":1}', '{"a":1}'),
        ('{"token":"x","b":[{"secret_key":1}]}', '{"b":[{"secret_key":"***"}],"token":"***"}'),
        ('"https://u:p@h/x"', '"https://***@h/x"'),
        ('{"https://u:p@h/x":null}', '{"https://***@h/x":null}'),
        ("not json https://h/?sig=1", "not json https://h/?***"),
        ("[NaN]", "[NaN]"),
    ],
)
def test_json_stays_json(text: str, clean: str) -> None:
    assert scrub_json(text) == clean


def test_rows_stay_in_the_manifests_order_whatever_the_verdicts() -> None:
    table = shaped(landed(item(n) for n in range(4)), {3: ["x"], 1: ["y"]}, docs=None)
    assert [(r["row"], r["broken"], r["docs"]) for r in table.to_pylist()] == [(1, ["y"], None), (3, ["x"], None)]


def test_rows_are_found_by_source_and_read_back(tmp_path: Any) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    assert list(quarantine.find(spec, "cameras", quarantine.QuarantineFilter())) == []
    key = quarantine.quarantine_key("manifests/cameras/2026-11-22/m.parquet")
    assert key == "quarantine/cameras/2026-11-22/m.parquet"
    table = shaped(landed([item(0)]), {0: ["x"]})
    write(spec, key, _parquet(table))
    write(spec, "quarantine/others/2026-11-22/m.parquet", _parquet(table))
    write(spec, "quarantine/cameras/2026-11-22/readme.txt", b"")
    (entry,) = quarantine.find(spec, "cameras", quarantine.QuarantineFilter())
    assert (entry.row, entry.marks) == (table.to_pylist()[0], ())
    assert quarantine.read(spec, key).to_pylist() == table.to_pylist()


@pytest.mark.parametrize("content", [None, b"not parquet", "another table"])
def test_a_file_that_is_not_quarantine_is_named_in_one_line(tmp_path: Any, content: Any) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    if content is not None:
        write(spec, "quarantine/a.parquet", content if isinstance(content, bytes) else _parquet(pa.table({"a": [1]})))
    with pytest.raises(ManifestError, match="^quarantine quarantine/a.parquet") as error:
        quarantine.read(spec, "quarantine/a.parquet")
    assert "\n" not in str(error.value)


def _parquet(table: pa.Table) -> bytes:
    import io

    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
