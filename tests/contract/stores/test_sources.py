"""Files and photos as a source, on every kind of store: what is new is read once, what is late is not lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from pydantic import SecretStr

from cropline.config.settings import ApiSettings
from cropline.config.state import StateSettings
from cropline.core import storage
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest
from cropline.intake.image_api import open_source
from cropline.state import State

BOX = {"id": "b", "xmin": 0.1, "ymin": 0.2, "xmax": 0.3, "ymax": 0.4}


class Poller:
    """Polls a source as a user's schedule does, and remembers what was read in a real state."""

    def __init__(self, state: State, spec: StoreSpec, **changes: Any) -> None:
        address = spec.url if spec.scheme != "file" else str(spec.address.prefix)
        self.api = ApiSettings(**({"url": f"{address}/{changes.pop('below')}"} | changes))
        self.state, self._spec = state, spec
        self.requests = 0
        self.notes: list[str] = []
        self.problems: list[str] = []

    def unread(self, files: dict[str, str]) -> set[str]:
        return self.state.unread_files("cams", files)

    def list_after(self) -> str | None:
        return self.state.list_after("cams")

    def poll(self) -> list[Any]:
        source = open_source(self.api, memory=self, spec_of=self._spec_of)
        pages = list(source.pages("1970-01-01T00:00:00Z"))
        self.notes, self.problems = list(source.notes), list(source.problems)
        for page in pages:
            self.state.remember_files("cams", page.read, page.list_after)
        return [item for page in pages for item in page.items]

    def boxes(self) -> dict[str, int]:
        """Poll, and return the number of boxes of each photo."""
        rows = [manifest.manifest_row(0, item, self.api) for item in self.poll()]
        assert all(row["unreadable"] == [] for row in rows)
        return {row["image_id"]: len(row["boxes"]) for row in rows}

    def _spec_of(self, bucket: str) -> StoreSpec:
        return StoreSpec(bucket, self._spec.endpoint, self._spec.region)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(StateSettings(url=SecretStr(f"sqlite:///{tmp_path / 'state.db'}"))) as opened:
        yield opened


def put(spec: StoreSpec, key: str, value: Any) -> None:
    storage.write(spec, key, value if isinstance(value, bytes) else json.dumps(value).encode())


def test_files_of_a_store_are_read_once_and_again_when_they_are_written_again(spec: StoreSpec, state: State) -> None:
    here = Poller(state, spec, kind="files", below="in/**/*.jsonl")
    put(spec, "in/2026/a ä.jsonl", {"id": 1, "url": "photos/x y.jpg"})
    put(spec, "in/b.txt", {"id": 2})
    (item,) = here.poll()
    assert item["id"] == 1
    url = manifest.manifest_row(0, item, here.api)["url"]
    root = spec.url if spec.scheme != "file" else spec.url.replace("ü", "%C3%BC").replace(" ", "%20")
    assert url == f"{root}/in/2026/photos/x{'%20' if spec.scheme == 'file' else ' '}y.jpg"
    assert here.poll() == []
    put(spec, "in/2026/a ä.jsonl", {"id": 3})
    assert [item["id"] for item in here.poll()] == [3]
    assert here.problems == []


def test_a_photo_is_read_when_its_side_car_is_there_and_again_when_either_changes(
    spec: StoreSpec, state: State
) -> None:
    here = Poller(state, spec, kind="bucket", below="photos/", key_pattern=r"(?P<store_id>S\d+)/")
    put(spec, "photos/S1/a b.jpg", b"1")
    put(spec, "photos/S1/c.JPG", b"2")
    put(spec, "photos/S1/c.json", [BOX, BOX | {"id": "c"}])
    assert here.boxes() == {"S1/c.JPG": 2}
    assert len(here.notes) == 1
    assert here.notes[0].startswith("1 photos wait for their side-car; one of them for ")
    assert here.boxes() == {}
    put(spec, "photos/S1/a b.json", {"boxes": [BOX], "camera_id": "k1"})
    (item,) = here.poll()
    row = manifest.manifest_row(0, item, here.api)
    assert (row["image_id"], row["store_id"], row["camera_id"]) == ("S1/a b.jpg", "S1", "k1")
    assert row["url"] == f"{spec.url}/photos/S1/a b.jpg" or spec.scheme == "file"
    assert row["captured_at"] is not None
    assert here.notes == []
    put(spec, "photos/S1/c.json", [BOX])
    assert here.boxes() == {"S1/c.JPG": 1}
    before = row["version"]
    put(spec, "photos/S1/a b.jpg", b"other")
    (item,) = here.poll()
    assert manifest.manifest_row(0, item, here.api)["version"] != before
    assert here.boxes() == {}


def test_one_side_car_of_a_folder_holds_the_boxes_of_its_photos(spec: StoreSpec, state: State) -> None:
    here = Poller(state, spec, kind="bucket", below="", sidecar="boxes.csv", coordinates="pixels")
    for name in ("x/1.jpg", "x/2.jpg", "y/1.jpg"):
        put(spec, name, b"p")
    put(spec, "x/boxes.csv", b"url,box_id,xmin,ymin,xmax,ymax\n1.jpg,a,1,2,3,4\n1.jpg,b,1,2,3,5\n")
    assert here.boxes() == {"x/1.jpg": 2}
    assert "2 photos wait" in here.notes[0]
    put(spec, "x/boxes.csv", b"url,box_id,xmin,ymin,xmax,ymax\n1.jpg,a,1,2,3,4\n1.jpg,b,1,2,3,5\nx/2.jpg,c,1,2,3,4\n")
    assert here.boxes() == {"x/1.jpg": 2, "x/2.jpg": 1}
    put(spec, "y/boxes.csv", b"\n")
    assert here.boxes() == {}
    assert len(here.problems) == 1
    assert "y/boxes.csv: " in here.problems[0]


def test_a_data_set_in_yolos_form_is_read_as_it_is(spec: StoreSpec, state: State) -> None:
    here = Poller(state, spec, kind="files", format="yolo", below="set")
    put(spec, "set/data.yaml", b"names: {0: cola, 1: water}\n")
    put(spec, "set/images/train/1.jpg", b"p")
    put(
        spec,
        "set/labels/train/1.txt",
        b"1 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.3 0.1 0.3 0.5 0.9\n\n0 0.1 0.1 0.3 0.1 0.3 0.5\n",
    )
    (item,) = here.poll()
    row = manifest.manifest_row(0, item, here.api)
    assert [box["label"] for box in row["boxes"]] == ["water", None, "cola"]
    assert [round(row["boxes"][0][side], 6) for side in ("xmin", "ymin", "xmax", "ymax")] == [0.4, 0.3, 0.6, 0.7]
    assert [round(row["boxes"][2][side], 6) for side in ("xmin", "ymin", "xmax", "ymax")] == [0.1, 0.1, 0.3, 0.5]
    assert set(row["unreadable"]) == {f"boxes[1].{side}" for side in ("xmin", "ymin", "xmax", "ymax")}


def test_names_that_sort_by_time_are_listed_behind_those_that_were_read(
    spec: StoreSpec, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Poller(state, spec, kind="bucket", below="photos", keys_by_time=True, overlap=0)
    listed: list[Any] = []
    real = obstore.list
    monkeypatch.setattr(obstore, "list", lambda *args, **named: listed.append(named["offset"]) or real(*args, **named))
    for number in (1, 2, 3, 4):
        put(spec, f"photos/{number}.jpg", b"p")
        if number != 3:
            put(spec, f"photos/{number}.json", [BOX])
    assert here.boxes() == {"1.jpg": 1, "2.jpg": 1, "4.jpg": 1}
    after = here.list_after()
    assert after is not None
    assert after.endswith("photos/2.jpg"), "3 waits for its side-car, and is listed again"
    assert here.boxes() == {}
    put(spec, "photos/3.json", [BOX])
    assert here.boxes() == {"3.jpg": 1}
    put(spec, "photos/5.jpg", b"p")
    put(spec, "photos/5.json", [BOX])
    assert here.boxes() == {"5.jpg": 1}
    assert here.boxes() == {}
    if spec.scheme != "file":
        assert [None if offset is None else offset.rpartition("/")[2] for offset in listed[:4]] == [
            None,
            "2.jpg",
            "2.jpg",
            "4.jpg",
        ]
