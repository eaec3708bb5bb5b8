"""Files, photos in a folder, and a generator function as the source: from the settings to the crops, by real polls."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from cropline.cli import app
from cropline.core.errors import ApiRefused, SettingsError
from cropline.intake import user_code
from cropline.state import State
from tests.integration.conftest import Workspace

COLOURS = {"cola": (200, 10, 10), "water": (10, 10, 200)}
TIME = "2026-11-20T08:00:00Z"


def draw(folder: Path, name: str) -> None:
    """Write a photo of 200 x 100: its left half is cola, its right half water."""
    photo = Image.new("RGB", (200, 100), COLOURS["cola"])
    photo.paste(COLOURS["water"], (100, 0, 200, 100))
    folder.mkdir(parents=True, exist_ok=True)
    photo.save(folder / name, quality=95)


def boxes(*labels: str) -> list[dict[str, Any]]:
    return [
        {"id": label, "label": label, "xmin": x, "ymin": 0.1, "xmax": x + 0.4, "ymax": 0.9}
        for label in labels
        for x in [0.05 if label == "cola" else 0.55]
    ]


def crops(workspace: Workspace) -> set[tuple[str, str]]:
    """Return (image, label) of each crop, after comparing its pixels with its label."""
    found, objects = set(), workspace.objects()
    for row in workspace.rows():
        assert row["status"] == "written", row["reason"]
        middle = Image.open(io.BytesIO(objects[row["key"]])).convert("RGB").resize((1, 1)).getpixel((0, 0))
        assert all(abs(a - b) < 12 for a, b in zip(middle, COLOURS[row["label"]], strict=True)), row["label"]
        found.add((row["image_id"], row["label"]))
    return found


def test_files_are_cropped_and_one_that_cannot_be_read_fails_the_run_after_the_others(workspace: Workspace) -> None:
    folder = workspace.folder / "exports"
    for name in ("a 1.jpg", "b.jpg"):
        draw(folder / "photos", name)
    workspace.set(API__KIND="files", API__URL=f"{folder}/*", FETCH__LOCAL_ROOTS=json.dumps([str(folder)]))
    good = {"id": "a", "captured_at": TIME, "url": "photos/a 1.jpg", "boxes": boxes("cola", "water")}
    (folder / "1.jsonl").write_text(f"{json.dumps(good)}\nbroken\n")
    (folder / "2.parquet").write_bytes(b"no")
    workspace.set(EXPECTATIONS__MAX_QUARANTINED_FRACTION="1")
    with pytest.raises(
        ApiRefused, match=r"1 file could not be read, the others were: .*2\.parquet: cannot be read as Parquet"
    ):
        workspace.poll()
    assert crops(workspace) == {("a", "cola"), ("a", "water")}
    (folder / "2.parquet").unlink()
    assert workspace.poll().nothing_new
    (folder / "3.jsonl").write_text(json.dumps(good | {"id": "b", "url": "photos/b.jpg", "boxes": boxes("water")}))
    (folder / "1.jsonl").write_text(json.dumps(good | {"boxes": boxes("cola")}))
    workspace.poll()
    assert crops(workspace) == {("a", "cola"), ("b", "water")}, "a rewritten file replaces what it said before"
    assert workspace.poll().nothing_new


def test_a_file_is_polled_once_beside_the_source(workspace: Workspace) -> None:
    folder = workspace.folder / "exports"
    draw(folder, "a.jpg")
    workspace.set(FETCH__LOCAL_ROOTS=json.dumps([str(folder)]), FETCH__ALLOW_LOOPBACK="true")
    workspace.poll()
    with State.open(workspace.settings.state) as state:
        cursor = state.cursor("cams")
    before = len(workspace.rows())
    (folder / "boxes.csv").write_text(
        "image_id,url,captured_at,box_id,label,xmin,ymin,xmax,ymax\n"
        f"extra,a.jpg,{TIME},1,cola,0.05,0.1,0.45,0.9\nextra,a.jpg,{TIME},2,water,0.55,0.1,0.95,0.9\n"
    )
    workspace.set(API__GROUP_BY_IMAGE="true")
    for expected in (2, 0):
        ended = CliRunner().invoke(app, ["poll", "--from", str(folder / "boxes.csv")], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        assert f"crops written │ {expected} " in " ".join(ended.output.split())
    assert len(workspace.rows()) == before + 2
    with State.open(workspace.settings.state) as state:
        assert state.cursor("cams") == cursor, "the source's own poll goes on where it was"


def test_photos_of_a_folder_are_cropped_once_their_side_cars_are_there(workspace: Workspace) -> None:
    folder = workspace.folder / "shop"
    draw(folder / "S1", "a.jpg")
    draw(folder / "S1", "b.jpg")
    workspace.set(API__KIND="bucket", API__URL=str(folder), API__KEY_PATTERN=r"/(?P<store_id>S\d+)/")
    with pytest.raises(SettingsError, match="CROPLINE_FETCH__LOCAL_ROOTS: the photos are below"):
        workspace.poll()
    workspace.set(FETCH__LOCAL_ROOTS=json.dumps([str(folder)]))
    (folder / "S1" / "a.json").write_text(json.dumps(boxes("cola")))
    workspace.poll()
    assert crops(workspace) == {("S1/a.jpg", "cola")}
    (folder / "S1" / "b.json").write_text(json.dumps({"boxes": boxes("water")}))
    workspace.poll()
    assert crops(workspace) == {("S1/a.jpg", "cola"), ("S1/b.jpg", "water")}
    assert {row["store_id"] for row in workspace.rows()} == {"S1"}
    assert workspace.poll().nothing_new


def test_a_generator_function_is_polled_from_its_cursor(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workspace.folder / "code"
    draw(folder, "a.jpg")
    code = (
        "import json, pathlib\n"
        "here = pathlib.Path(__file__).parent\n"
        "def photos(since, settings):\n"
        "    with (here / 'since').open('a') as file: file.write(since.isoformat() + '\\n')\n"
        "    yield json.loads((here / 'feed.json').read_text())\n"
    )
    (folder / "shop_feed_of_tests.py").write_text(code)
    item = {"id": "a", "etag": "1", "captured_at": TIME, "updated_at": TIME, "url": f"file://{folder}/a.jpg"}
    (folder / "feed.json").write_text(json.dumps([item | {"boxes": boxes("cola")}]))
    monkeypatch.syspath_prepend(str(folder))
    workspace.set(
        API__KIND="python",
        API__URL="",
        API__READER="shop_feed_of_tests:photos",
        FETCH__LOCAL_ROOTS=json.dumps([str(folder)]),
    )
    workspace.poll()
    assert crops(workspace) == {("a", "cola")}
    assert workspace.poll().nothing_new
    asked = (folder / "since").read_text().split()
    assert asked == ["1970-01-01T00:00:00+00:00", "2026-11-20T07:50:00+00:00"], "the cursor less the overlap"


@pytest.fixture
def feed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A generator function as the source; the fixture sets what it yields."""
    folder = workspace.folder / "code"
    draw(folder, "a.jpg")
    (folder / "listed_by_tests.py").write_text(
        "import json, pathlib\n"
        "def photos(since, settings):\n"
        "    yield json.loads((pathlib.Path(__file__).parent / 'feed.json').read_text())\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    roots = json.dumps([str(folder)])
    workspace.set(API__KIND="python", API__URL="", API__READER="listed_by_tests:photos", FETCH__LOCAL_ROOTS=roots)

    def say(*items: dict[str, Any]) -> None:
        photo = {"etag": "1", "captured_at": TIME, "updated_at": TIME, "url": f"file://{folder}/a.jpg"}
        whole = [item if "gone" in item else photo | {"boxes": boxes("cola")} | item for item in items]
        (folder / "feed.json").write_text(json.dumps(whole))

    yield say
    sys.modules.pop("listed_by_tests", None)
    user_code.load_function.cache_clear()


def test_a_photo_that_its_source_deleted_is_erased_and_does_not_come_back(
    workspace: Workspace, feed: Callable[..., None]
) -> None:
    workspace.set(API__DELETED="gone")
    feed({"id": "a"}, {"id": "b"}, {"id": "c", "gone": "2026-11-20"}, {"id": "d"})
    assert workspace.poll().deleted == 0, "c was never here"
    assert crops(workspace) == {("a", "cola"), ("b", "cola"), ("d", "cola")}
    feed({"id": "a", "gone": True}, {"id": "b"}, {"id": "d"})
    assert workspace.poll().deleted == 1
    assert crops(workspace) == {("b", "cola"), ("d", "cola")}
    assert {name for name in workspace.objects() if "/a" in name} == set()
    later = {"updated_at": "2026-11-20T09:00:00Z"}
    feed({"id": "a"} | later, {"id": "e"} | later, {"id": "e", "gone": True})
    workspace.poll()
    assert crops(workspace) == {("b", "cola"), ("d", "cola")}, "a stays erased, and e was announced and deleted at once"
    assert workspace.poll().nothing_new


def test_a_deleted_photo_may_be_kept_and_marked(workspace: Workspace, feed: Callable[..., None]) -> None:
    workspace.set(API__DELETED="gone", API__ON_DELETE="keep")
    feed({"id": "a"})
    workspace.poll()
    feed({"id": "a", "gone": True})
    assert [workspace.poll().deleted for _ in range(2)] == [1, 0]
    assert crops(workspace) == {("a", "cola")}
    said = CliRunner().invoke(app, ["trace", "a"], catch_exceptions=False).output
    assert "deleted by cams, as a poll read at" in said
    feed({"id": "a"})
    workspace.poll()
    assert "deleted by" not in CliRunner().invoke(app, ["trace", "a"], catch_exceptions=False).output
