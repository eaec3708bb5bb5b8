"""All output kinds side by side on S3, from the poll to the export: written, read, forgotten, swept, exported.

Checked with boto3, Delta's own reader, tarfile and pyarrow. Ages are set in moto, which runs in this process.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import tarfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import boto3
import pyarrow.parquet as pq
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from PIL import Image

import cropline
from cropline.config.pictures import PictureLimits
from cropline.config.settings import FetchSettings
from cropline.core import storage
from cropline.core.store_spec import StoreSpec
from cropline.erasure.selection import Selection
from cropline.export import Choice, Layout, export
from cropline.maintenance import CleanupResult
from cropline.maintenance.uploads import end_uploads
from fugue_jobs.pool.assignment import Assignment
from fugue_jobs.pool.crop_pool import CropPool
from tests.integration.conftest import Workspace, artifact_text
from tests.integration.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from tests.integration.killing import POLL, run_until_nothing_waits
from tests.integration.oracle import Ledger, books
from tests.photos import encoded, photo_server
from tests.unit.fugue_jobs.imaging.cutting import work_for

KINDS = {"default": {}, "tar": {"output": "shards"}, "table": {"output": "parquet"}}
KIND_ENDS = {"shards": "tar", "parquet": "parquet"}
Crops = Counter[tuple[str, str, str, str]]


@pytest.fixture
def bucket(workspace: Workspace, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put outputs of all kinds in a separate bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"packs-{uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=name)
    workspace.set(STORAGE__URL=f"s3://{name}/cropline", STORAGE__ENDPOINT=s3, PROFILES=json.dumps(KINDS))
    return name


def _lying(workspace: Workspace) -> tuple[Crops, Crops]:
    """Return (image, profile, box, SHA-256) of every row: by the row, and by the bytes that it points at."""
    objects = workspace.place.objects("crops") | workspace.place.objects("shards")
    said, found = Crops(), Crops()
    for row in workspace.place.rows():
        start = row["offset"] if row["shard"] else 0
        data = objects[row["shard"] or row["key"]][start : start + row["bytes"]]
        name = (row["image_id"], row["profile"], row["box_id"])
        said[*name, row["sha256"]] += 1
        found[*name, hashlib.sha256(data).hexdigest()] += 1
    return said, found


def _kept(workspace: Workspace) -> dict[str, bytes]:
    """Return every object that a dry run must not change."""
    folders = ("crops", "shards", "catalogue", "manifests", "receipts")
    return {key: data for folder in folders for key, data in workspace.place.objects(folder).items()}


def _wanted(workspace: Workspace, but: str) -> Counter[tuple[str, ...]]:
    """Return one crop per profile and box that the camera API lists, except those of one photo."""
    listed = [row for row in workspace.api.control.images() if row["id"] != but]
    return Counter((row["id"], profile, box["id"]) for row in listed for box in row["boxes"] for profile in KINDS)


def _in_packs(objects: dict[str, bytes]) -> Counter[tuple[str, str]]:
    """Return (kind of pack, image id) of all packed crops, by readers of their formats."""
    held: Counter[tuple[str, str]] = Counter()
    for key, data in objects.items():
        if key.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                facts = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]  # type: ignore[arg-type]
            held.update(("tar", fact["image_id"]) for fact in facts)
        elif key.endswith(".parquet"):
            held.update(("table", name) for name in pq.read_table(io.BytesIO(data))["image_id"].to_pylist())
    return held


def _age(bucket: str, days: float) -> None:
    """Make everything in the bucket look that many days old."""
    for key in s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys.values():
        key.last_modified = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)


# Three boxes of each photo: the store answers in Python, and everything is read again after each step.
@pytest.mark.parametrize("camera_api", [3], indirect=True, ids=["three boxes"])
def test_all_output_kinds_are_written_read_erased_swept_and_exported(
    workspace: Workspace, s3: str, bucket: str, tmp_path: Path
) -> None:
    from flows.forget import forget
    from flows.maintain import maintain

    funnel = workspace.poll()
    said, found = _lying(workspace)
    assert found == said
    assert Counter(name[:3] for name in said.elements()) == _wanted(workspace, but="")
    assert funnel.written == said.total()
    for row in workspace.place.rows():
        assert hashlib.sha256(cropline.open_crop(row).read()).hexdigest() == row["sha256"]

    # Packs also hold an older version of one of its boxes, which no current row names.
    gone = workspace.api.control.images()[0]["id"]
    boxes = len(workspace.api.control.change_box(gone)["boxes"])
    workspace.poll()
    packs = _in_packs(workspace.place.objects("shards"))
    (folder,) = {
        row["key"].rsplit("/", 2)[0] for row in workspace.place.rows() if row["image_id"] == gone and not row["shard"]
    }
    mine = [key for key in workspace.place.objects("crops") if key.startswith(f"{folder}/")]
    assert packs["tar", gone] == packs["table", gone] == len(mine) == boxes + 1
    others = Counter({name: count for name, count in said.items() if name[0] != gone})

    asked = Selection(images=(gone,))
    before = _kept(workspace)
    estimated = forget(asked)
    assert _kept(workspace) == before
    erased = forget(asked, dry_run=False)
    assert (estimated.rows, estimated.objects, estimated.images) == (erased.rows, erased.objects, 1)
    assert (erased.rows, erased.objects) == (boxes * len(KINDS), len(mine)), "of the packs no object is its own"
    assert erased.receipt is not None
    assert f"s3://{bucket}/cropline/{erased.receipt}" in artifact_text("forget-summary")
    said, found = _lying(workspace)
    assert found == said == others
    packs = _in_packs(workspace.place.objects("shards"))
    assert Counter(packs.elements()) == Counter((p, i) for i, p, *_ in others.elements() if p != "default")
    assert not any(key.startswith(f"{folder}/") for key in workspace.place.objects("crops"))
    receipt = json.loads(workspace.place.objects("receipts")[erased.receipt])
    assert [entry["image_id"] for entry in receipt["went"]] == [gone]

    # What killed attempts leave: a crop, a pack with its index, a multipart upload. All else stays at any age.
    client = boto3.client("s3", endpoint_url=s3)
    before = workspace.place.objects("crops") | workspace.place.objects("shards")
    for key in ("crops/default-x/cams-1/no-photo/ff/0000-b.jpg", "shards/tar/x/aa.tar", "shards/tar/x/aa.json"):
        client.put_object(Bucket=bucket, Key=f"cropline/{key}", Body=b"lost" * 100)
    client.create_multipart_upload(Bucket=bucket, Key="cropline/shards/tar/x/bb.tar")
    client.create_multipart_upload(Bucket=bucket, Key="not-ours.tar")
    _age(bucket, 3)
    _, foreseen_taken = maintain(dry_run=True)
    assert "| orphans | 3 |" in artifact_text("maintain-summary")
    _, taken = maintain()
    assert taken == foreseen_taken
    assert {entry.what: entry.count for entry in taken} == {
        "packs with many superseded crops, rewritten": 0,
        "orphans": 3,
        "unfinished files": 0,
        "unfinished uploads": 1,
    }
    after = workspace.place.objects("crops") | workspace.place.objects("shards")
    indexes = {key for key in after if key.endswith("current.json")}
    assert indexes == {
        "shards/current.json",
        *(f"{row['shard']}.current.json" for row in workspace.rows() if row["shard"]),
    }
    assert {key: data for key, data in after.items() if key not in indexes} == before
    assert [entry["Key"] for entry in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["not-ours.tar"]

    choice = Choice(f"image_id <> '{gone}'", tuple(KINDS))
    done = export(workspace.settings.storage.spec, tmp_path / "out", choice, Layout("folder"))
    files = [path for path in (tmp_path / "out" / "images").rglob("*") if path.is_file()]
    hashes = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    assert hashes == Counter(name[3] for name in others.elements())
    assert done.crops == others.total()


@pytest.mark.parametrize("kind", ["shards", "parquet"])
@pytest.mark.parametrize("fault", ["call", "call late"], ids=["before", "after"])
def test_killed_while_a_pack_is_put_it_ends_as_if_undisturbed(
    disturbed: Workspace, undisturbed: Ledger, store: FaultyProxy, fault: Fault, kind: str
) -> None:
    """The run and the process that holds the pack are killed. No row names a pack that was put and not committed."""
    disturbed.set(PROFILES=json.dumps({"default": {"output": kind}}), ENGINE__PROCESSES="1")

    def kill() -> bool:
        run.send_signal(signal.SIGKILL, group=True)
        return False

    store.strike(fault, "PUT", "/shards/", call=kill)
    run = disturbed.start(POLL)
    assert run.wait() == -signal.SIGKILL
    assert store.struck == 1
    left = disturbed.place.objects("shards")
    assert [key.rpartition(".")[2] for key in left] == [KIND_ENDS[kind]] * (fault == "call late"), (
        "the index comes last"
    )
    run_until_nothing_waits(disturbed)
    end = books(disturbed.place)
    assert end.rows == undisturbed.rows, "the same crops, wherever they lie"
    assert (end.works, end.open_batches, end.torn) == (undisturbed.works, 0, 0)
    said, found = _lying(disturbed)
    assert found == said
    named = {row["shard"] for row in disturbed.place.rows()}
    assert {key for key in disturbed.place.objects("shards") if not key.endswith(".json")} - named <= set(left)


def test_an_interrupted_upload_is_invisible_and_removed_by_maintenance(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack of several parts: its process is killed at the second part, and another cuts its crops again."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3", endpoint_url=s3)
    bucket = f"parts-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    with faulty_proxy(s3) as proxy, photo_server() as photos:
        spec = StoreSpec(f"s3://{bucket}/below", proxy.url, "us-east-1")
        for number in range(3):
            noise = Image.frombytes("RGB", (1000, 800), random.Random(number).randbytes(2_400_000))
            photos.photos[f"{number}.jpg"] = encoded(noise, quality=90)
        works = [work_for(url=photos.url(f"{n}.jpg"), image_id=f"photo-{n}") for n in range(3)]
        assignment = Assignment(
            spec, FetchSettings(allow_loopback=True).options, PictureLimits().options, (("p0", "shards", 10**9),)
        )
        with CropPool(assignment, 1) as pool:

            def kill() -> bool:
                os.kill(pool.pids[0], signal.SIGKILL)
                return False

            proxy.strike("call", "PUT", "partNumber=2", call=kill)
            rows = [crop._asdict() for _, outcome in pool.run(works, "b-1") for crop in outcome.crops]
        assert proxy.struck == 1
        assert [row["reason"] for row in rows] == [None] * 3
        assert len({row["shard"] for row in rows}) == 1
        shard = rows[0]["shard"]
        assert [key for key in storage.list_keys(spec, "") if not key.endswith(".json")] == [shard]
        for row in rows:
            assert hashlib.sha256(cropline.open_crop(row, spec).read()).hexdigest() == row["sha256"]

        # Others may use the bucket too, when the storage is the whole bucket.
        client.create_multipart_upload(Bucket=bucket, Key="below/videos/not-ours.mp4")

        # moto says that every upload was begun in 2010.
        now = datetime.now(UTC)
        assert end_uploads(spec, datetime(2009, 1, 1, tzinfo=UTC), dry_run=False) == [
            CleanupResult("unfinished uploads", 0)
        ]
        assert end_uploads(spec, now, dry_run=True) == [CleanupResult("unfinished uploads", 1)]
        proxy.strike("refused", "GET", "uploads", times=10)
        (told,) = end_uploads(spec, now, dry_run=False)
        assert (told.what.startswith("unfinished uploads, left to a rule of the bucket"), told.count) == (True, 0)
        proxy.calm()
        assert end_uploads(spec, now, dry_run=False) == [CleanupResult("unfinished uploads", 1)]
        left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
        assert [entry["Key"] for entry in left] == ["below/videos/not-ours.mp4"]
        assert hashlib.sha256(cropline.open_crop(rows[0], spec).read()).hexdigest() == rows[0]["sha256"]
