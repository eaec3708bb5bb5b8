"""The six shapes of docs/your-api.md, each with its documented settings, against a server of that shape."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from cropline.config.settings import ApiSettings, Settings, load_settings
from cropline.intake import image_api, manifest
from cropline.intake.grouping import grouped_rows
from tests.unit.cropline.intake.sources.listing_server import Answer, Listing, listing
from tests.unit.cropline.intake.sources.shapes import SHAPES, Shape

__all__ = ["listing"]

DOC = (Path(__file__).parents[5] / "docs" / "your-api.md").read_text()
FILES_DOC = (Path(__file__).parents[5] / "docs" / "your-files.md").read_text()
WORKED = re.findall(r"^### (.+?)\n\n```json\n(.*?)```\n\n```sh\n(.*?)```", DOC, re.MULTILINE | re.DOTALL)


def settings_of(block: str, url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for line in block.splitlines():
        name, _, value = shlex.split(line)[0].partition("=")
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CROPLINE_API__URL", url)
    monkeypatch.setenv("CROPLINE_API__RETRIES", "0")
    monkeypatch.setenv("CROPLINE_API__PAGE_SIZE", "2")
    return load_settings()


def rows_of(items: list[Any], api: ApiSettings, settings: Settings, folder: Path) -> list[dict[str, Any]]:
    if not api.group_by_image:
        return [manifest.manifest_row(position, item, api) for position, item in enumerate(items)]
    spool = folder / "spool"
    spool.write_text("".join(json.dumps(item) + "\n" for item in items))
    return list(grouped_rows(spool, api, settings.storage.spec, lambda ids: {}))


def served(listing: Listing, shape: Shape) -> None:
    def script(query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        body = listing.bodies[-1] if listing.bodies else None
        return shape(listing.paths[-1], {name: values[0] for name, values in query.items()}, headers, body)

    listing.script = script


@pytest.mark.parametrize("number", range(6), ids=[shape.__name__ for shape in SHAPES])
def test_a_worked_shape_is_read_whole_with_the_settings_of_the_guide(
    listing: Listing, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sample, block = WORKED[number]
    served(listing, SHAPES[number])
    settings = settings_of(block, listing.url, monkeypatch)
    api = settings.api
    items = [item for page in image_api.pages(api, "2026-04-01T00:00:00+00:00") for item in page]
    rows = rows_of(items, api, settings, tmp_path)
    assert len({row["image_id"] for row in rows}) == 5
    for place, row in enumerate(sorted(rows, key=lambda row: row["captured_at"])):
        assert row["unreadable"] == []
        assert row["captured_at"].isoformat() == row["updated_at"].isoformat() == f"2026-04-{10 + place}T08:00:00+00:00"
        assert row["url"] in (
            f"https://cdn.example.com/{place}.jpg",
            f"https://cdn.example.com/media/Regal%201/{place}.jpg",
        )
        scale = 1 if row["coordinates"] == "pixels" else 100
        box = row["boxes"][0]
        assert [round(box[name] * scale, 6) for name in ("xmin", "ymin", "xmax", "ymax")] == [10, 20, 40, 60]
        assert row["version"]
    if "visits" in sample:
        assert {row["store_id"] for row in rows} == {"S1", "S2", "S3", "S4", "S5"}
    if api.group_by_image:
        assert [len(row["boxes"]) for row in rows] == [2] * 5


@pytest.mark.parametrize("number", range(6), ids=[shape.__name__ for shape in SHAPES])
def test_the_answer_in_the_guide_is_what_the_server_gives(
    listing: Listing, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sample, block = WORKED[number]
    served(listing, SHAPES[number])
    api = settings_of(block, listing.url, monkeypatch).api.model_copy(update={"page_size": 1})
    given: list[Any] = []
    script = listing.script
    listing.script = lambda query, headers: given.append(script(query, headers)) or given[-1]  # type: ignore[func-returns-value]
    next(iter(image_api.pages(api, "2026-04-01T00:00:00+00:00")))
    assert json.loads(given[0][2]) == json.loads(sample)


def test_every_setting_of_the_listing_is_in_the_guide() -> None:
    general = {
        "source",
        "fields",
        "max_pages",
        "overlap",
        "start",
        "late",
        "calls_per_s",
        "timeout_s",
        "retries",
        "orientation",
    }
    of_files = {"format", "sidecar", "key_pattern", "keys_by_time"}
    missing = [
        name
        for name in ApiSettings.model_fields
        if name not in general and name not in of_files and not re.search(rf"\b{name.upper()}\b|`{name.upper()}__", DOC)
    ]
    assert missing == []
    assert [name for name in of_files if f"| `{name.upper()}` |" not in FILES_DOC] == []


def test_there_are_six_worked_shapes() -> None:
    assert len(WORKED) == len(SHAPES) == 6
