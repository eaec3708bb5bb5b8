"""The main job on real input: a live HTTP API, real JPEGs, real files, a real Prefect server."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from PIL import Image, ImageOps

from cropline.pipeline.funnel import Funnel
from cropline.state import State
from demo.stores import write_stores
from tests.integration.cameras import cameras
from tests.integration.conftest import Workspace, after_a_poll, artifact_text, picture, prefect_events, settled
from tests.integration.fork_server import ForkServer


def _plain_crop(photo: bytes, box: dict[str, float]) -> Image.Image:
    """The plain way: open, turn upright, round to the nearest pixel, cut."""
    with Image.open(io.BytesIO(photo)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = upright.size
    left, top = int(box["xmin"] * width + 0.5), int(box["ymin"] * height + 0.5)
    right, bottom = int(box["xmax"] * width + 0.5), int(box["ymax"] * height + 0.5)
    return upright.crop((left, top, right, bottom))


def _listed(workspace: Workspace) -> dict[str, dict]:
    return {row["id"]: row for row in workspace.api.control.images()}


class Polled(NamedTuple):
    """What one poll with two profiles and a store table left, and its artifacts."""

    here: Workspace
    funnel: Funnel
    artifacts: dict[str, str]
    fetched: dict[str, int]  # requests by image id


@pytest.fixture(scope="module")
def polled(
    tmp_path_factory: pytest.TempPathFactory, photo_cache: Path, prefect_server: None, forks: ForkServer
) -> Iterator[Polled]:
    """One poll for all tests that only read what it left."""
    folder = tmp_path_factory.mktemp("polled")
    write_stores(folder / "stores.parquet")
    with (
        pytest.MonkeyPatch.context() as patch,
        cameras(photos=6, megapixels=0.3, cache_dir=photo_cache) as api,
        settled(folder, api, forks, patch) as here,
    ):
        here.set(
            PROFILES='{"exact": {"format": "png"}, "thumb": {"format": "jpeg", "max_side": 64}}',
            ENGINE__STORES=str(folder / "stores.parquet"),
        )
        funnel = here.poll()
        artifacts = {key: artifact_text(key) for key in ("poll-summary", "backlog")}
        yield Polled(here, funnel, artifacts, api.control.counts())


def test_crops_are_pixel_identical_to_the_plain_way(polled: Polled) -> None:
    listed = _listed(polled.here)
    rows, objects = [row for row in polled.here.rows() if row["profile"] == "exact"], polled.here.objects()
    assert 2 * len(rows) == polled.funnel.written == 2 * sum(len(row["boxes"]) for row in listed.values())
    photos = {name: requests.get(row["url"], timeout=10).content for name, row in listed.items()}
    for row in rows:
        box = listed[row["image_id"]]["boxes"][row["box_index"]]
        ours, plain = picture(objects[row["key"]]), _plain_crop(photos[row["image_id"]], box)
        assert ours.size == plain.size, row["key"]
        assert ours.tobytes() == plain.tobytes(), row["key"]


def test_every_box_is_accounted_for_and_every_row_has_its_object(polled: Polled) -> None:
    funnel = polled.funnel
    rows, objects = polled.here.rows(), polled.here.objects()
    assert funnel.boxes == funnel.written + funnel.failed + funnel.skipped == len(rows)
    assert {row["key"] for row in rows if row["status"] == "written"} == set(objects)
    assert all(row["bytes"] == len(objects[row["key"]]) for row in rows)


def test_two_profiles_are_cut_from_each_photo_which_is_fetched_once(polled: Polled) -> None:
    rows = polled.here.rows()
    half = polled.funnel.written // 2
    assert Counter(row["profile"] for row in rows) == {"exact": half, "thumb": half}
    assert all(max(row["width"], row["height"]) <= 64 for row in rows if row["profile"] == "thumb")
    assert polled.fetched == dict.fromkeys(_listed(polled.here), 1)


def test_store_metadata_is_joined_to_each_crop(polled: Polled) -> None:
    rows = polled.here.rows()
    assert rows
    assert all(row["store_name"] and row["city"] and row["region"] for row in rows)


def test_the_report_opens_without_a_server_and_shows_the_counts(polled: Polled) -> None:
    assert polled.funnel.report is not None
    page = (polled.here.folder / "output" / polled.funnel.report).read_text()
    assert f"{polled.funnel.written:,} crops written from 6 images" in page
    assert "data:image/jpeg;base64," in page
    for address in ("http://", "https://", "<script"):
        assert address not in page


def test_the_run_summary_is_an_artifact_with_its_contact_sheet(polled: Polled) -> None:
    text = polled.artifacts["poll-summary"]
    assert "![contact sheet](data:image/jpeg;base64," in text
    assert "![throughput over time](data:image/svg+xml;base64," in text
    assert f"| written | {polled.funnel.written:,} |" in text


def test_the_backlog_is_an_artifact_with_its_last_day(polled: Polled) -> None:
    text = polled.artifacts["backlog"]
    assert "**The backlog is empty.**" in text
    assert "![backlog and age over the last day](data:image/svg+xml;base64," in text
    assert "| done | 12 |" in text


@after_a_poll()
def test_a_second_poll_finds_nothing_new_and_writes_nothing(workspace: Workspace) -> None:
    before = workspace.end_state()
    funnel = workspace.poll()
    assert funnel.nothing_new
    assert funnel.polled == funnel.repeated == 6
    assert workspace.end_state() == before
    assert not any(workspace.api.control.counts().values()), "no photo was fetched again"


@after_a_poll()
def test_a_changed_box_is_cut_again_alone_under_a_new_key(workspace: Workspace) -> None:
    old_objects, old_rows = workspace.objects(), workspace.rows()
    image = workspace.api.control.change_box(sorted(_listed(workspace))[0], "b02")
    funnel = workspace.poll()
    assert (funnel.landed, funnel.changed, funnel.new, funnel.images) == (1, 1, 0, 1)
    assert funnel.boxes == funnel.written == len(image["boxes"])
    new_objects, rows = workspace.objects(), workspace.rows()
    assert all(new_objects[key] == data for key, data in old_objects.items()), "an old version was overwritten"
    (added,) = set(new_objects) - set(old_objects)
    changed = {row["box_id"]: row for row in rows if row["image_id"] == image["id"]}
    assert changed["b02"]["key"] == added
    assert (len(rows), len(changed)) == (len(old_rows), len(image["boxes"])), "downstream reads one current row a box"
    before = {(row["image_id"], row["box_id"]): row["key"] for row in old_rows}
    same = {(row["image_id"], row["box_id"]): row["key"] for row in rows if row is not changed["b02"]}
    assert same.items() <= before.items()
    # All rows of the photo belong to the new work item: the next poll, and a repeat of this one, find nothing to do.
    assert len({row["fingerprint"] for row in changed.values()}) == 1
    assert {row["batch_id"] for row in changed.values()} == {changed["b02"]["batch_id"]}
    assert workspace.poll().nothing_new


@after_a_poll()
def test_cropping_again_on_demand_cuts_every_box(workspace: Workspace) -> None:
    gone = workspace.folder / "output" / workspace.rows()[0]["key"]
    before = gone.read_bytes()
    gone.unlink()
    with State.open(workspace.settings.state) as state:
        state.requeue(states=["done"])
    workspace.process()
    assert gone.read_bytes() == before


@after_a_poll()
def test_a_changed_photo_recrops_that_image_only(workspace: Workspace) -> None:
    changed = workspace.api.control.change_etag(sorted(_listed(workspace))[-1])["id"]
    workspace.api.control.clear_log()
    funnel = workspace.poll()
    assert (funnel.landed, funnel.changed, funnel.images) == (1, 1, 1)
    assert workspace.api.control.counts() == {changed: 1}
    assert workspace.poll().nothing_new


@after_a_poll()
def test_new_and_late_photos_are_found_by_the_next_poll(workspace: Workspace) -> None:
    added, late = workspace.api.control.advance(photos=4, late=1)
    assert late
    funnel = workspace.poll()
    assert funnel.new == funnel.images == len(added) + len(late)
    found = {row["image_id"] for row in workspace.rows()}
    assert found == set(_listed(workspace))
    assert set(late) <= found


def test_max_batches_leaves_the_rest_for_process(workspace: Workspace) -> None:
    from flows.poll import poll

    workspace.set(BATCH__IMAGES="2")
    assert poll(max_batches=1).images == 2
    assert Counter(workspace.states().values()) == {"done": 2, "pending": 4}
    funnel = workspace.process()
    assert (funnel.polled, funnel.batches, funnel.images) == (0, 2, 4)
    assert set(workspace.states().values()) == {"done"}


@after_a_poll()
def test_lineage_has_every_run_and_batch_once(workspace: Workspace) -> None:
    path = workspace.folder / "output" / "lineage" / "events.ndjson"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = Counter((event["job"]["name"], event["eventType"]) for event in events)
    assert kinds == {
        (f"cropline.{job}", kind): 1 for job in ("poll", "validate", "crop") for kind in ("START", "COMPLETE")
    }


def test_failures_are_a_table_that_says_how_to_look_at_each(workspace: Workspace) -> None:
    gone = sorted(_listed(workspace))[0]
    workspace.api.control.add_fault("image_missing", image_id=gone)
    funnel = workspace.poll()
    (row,) = json.loads(artifact_text("poll-failures"))
    assert funnel.failed == len(_listed(workspace)[gone]["boxes"])
    assert row["boxes"].endswith(f" and {funnel.failed - 3} more")
    assert (row["reason"], row["look at it"]) == ("http_404", f"cropline show {gone}")


def test_a_run_shows_what_it_made_in_the_event_feed(workspace: Workspace) -> None:
    before = datetime.now(UTC)
    funnel = workspace.poll()
    root = workspace.settings.storage.spec.uri("")
    made = {
        event.resource.id.removeprefix(root): event
        for event in prefect_events("prefect.asset.materialization.succeeded", since=before, count=3)
    }
    assert set(made) == {funnel.manifest, "crops/", "catalogue"}
    assert made["catalogue"].payload["version"] == funnel.catalogue_version
    assert made["crops/"].payload["written"] == funnel.written
    assert f"{root}{funnel.manifest}" in [each.id for each in made["crops/"].related]
