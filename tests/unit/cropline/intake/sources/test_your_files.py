"""The examples of docs/your-files.md: their files are written, and read with their settings."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from cropline.config.settings import load_settings
from cropline.intake import image_api, manifest
from cropline.intake.grouping import grouped_rows
from cropline.intake.photo_places import check_photo_place

DOC = (Path(__file__).parents[5] / "docs" / "your-files.md").read_text()
EXAMPLES = re.findall(r"^### (.+?)\n\n(.*?)```sh\n(.*?)```", DOC, re.MULTILINE | re.DOTALL)
FILES = re.compile(r'```\w+ title="([^"]+)"\n(.*?)```', re.DOTALL)
PHOTOS = ("exports/photos/0.jpg", "set/photos/0.jpg", "set/images/train/0.jpg", "shop/S1/0.jpg")


def test_there_are_six_examples() -> None:
    assert len(EXAMPLES) == 6


@pytest.mark.parametrize("example", EXAMPLES, ids=[title for title, _, _ in EXAMPLES])
def test_an_example_is_read_with_its_settings(
    example: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    title, blocks, variables = example
    files = dict(FILES.findall(blocks)) | dict.fromkeys(PHOTOS, "photo")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for line in variables.splitlines():
        name, _, value = shlex.split(line)[0].partition("=")
        monkeypatch.setenv(name, value.replace("/data", str(tmp_path)))
    settings = load_settings()
    check_photo_place(settings)
    api = settings.api
    items = [item for page in image_api.pages(api, "1970-01-01T00:00:00+00:00") for item in page]
    rows: list[dict[str, Any]] = [manifest.manifest_row(0, item, api) for item in items]
    if api.group_by_image:
        spool = tmp_path / "spool"
        spool.write_text("".join(json.dumps(item) + "\n" for item in items))
        rows = list(grouped_rows(spool, api, settings.storage.spec, lambda ids: {}))
    (row,) = rows
    assert row["unreadable"] == []
    assert row["version"]
    assert row["url"].endswith("/0.jpg")
    if row["url"].startswith("file://"):
        assert Path(row["url"].removeprefix("file://")).read_text() == "photo"
    scale = 1 if row["coordinates"] == "pixels" else 100
    assert [round(row["boxes"][0][side] * scale, 6) for side in ("xmin", "ymin", "xmax", "ymax")] == [10, 20, 40, 60]
    assert row["boxes"][0]["label"] == "cola"
    assert len(row["boxes"]) == (2 if "one row a box" in title else 1)
    if title not in ("YOLO", "A bucket of photos, each with a side-car"):
        assert row["captured_at"].isoformat() == "2026-04-10T08:00:00+00:00"
