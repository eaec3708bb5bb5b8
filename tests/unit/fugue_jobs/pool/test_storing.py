"""Crops into stores: their paths, their metadata, and the effects of a broken write."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from cropline.core.failures import PhotoFailure
from cropline.core.keys import crop_key
from cropline.core.storage import list_keys, read
from cropline.core.store_spec import StoreSpec
from fugue_jobs.pool.storing import CropStore
from fugue_jobs.work import Box, CropOutcome
from tests.emulators.s3 import s3_server
from tests.unit.fugue_jobs.imaging.cutting import work_for

OUTCOME = CropOutcome(0, 0, "written", format="png")


@pytest.fixture(scope="module")
def s3() -> Iterator[StoreSpec]:
    with pytest.MonkeyPatch.context() as patch, s3_server() as url:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="crops")
        yield StoreSpec("s3://crops/below", url, "us-east-1")


def test_a_local_crop_is_where_the_store_reads_it(tmp_path: Path) -> None:
    spec = StoreSpec((tmp_path / "a folder").as_uri())
    work = work_for(Box("Ünïcode #1 %41", 0, 0, 1, 1), image_id="../x")
    done = CropStore(spec).put(work, "batch-1", OUTCOME, b"bytes")
    assert done.key == crop_key("cameras", "../x", "p0", "f" * 64, 0, "Ünïcode #1 %41", "png")
    assert read(spec, done.key) == b"bytes"
    assert list_keys(spec, "crops") == [done.key]


def test_the_same_work_overwrites_itself_whole(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    store, work = CropStore(spec), work_for()
    key = store.put(work, "batch-1", OUTCOME, b"long" * 1000).key
    assert store.put(work, "batch-1", OUTCOME, b"short").key == key
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [b"short"]


def test_an_unfinished_write_is_no_object(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    store, work = CropStore(spec), work_for()
    key = store.put(work, "batch-1", OUTCOME, b"bytes").key or ""
    # As left by a process that is killed in the middle of a write.
    (tmp_path / f"{key}#4711").write_bytes(b"half")
    assert list_keys(spec, "crops") == [key]


KILLED_WHILE_WRITING = """
import os, signal, sys
from fugue_jobs.pool.storing import _write
def watch(frame, event, arg):
    if event == "c_return" and arg is os.write:
        os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(watch)
_write(sys.argv[1], b"bytes")
"""


@pytest.mark.parametrize("there", [None, b"bytes"], ids=["new", "again"])
def test_a_process_killed_while_it_writes_leaves_no_file(tmp_path: Path, there: bytes | None) -> None:
    path = tmp_path / "crops" / "a.jpg"
    if there is not None:
        path.parent.mkdir()
        path.write_bytes(there)
    ended = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()] == ([there] if there else [])


def test_writing_the_same_object_again_renews_its_age(tmp_path: Path) -> None:
    """Orphan removal must see that a row is about to name this object."""
    store, work = CropStore(StoreSpec(tmp_path.as_uri())), work_for()
    path = tmp_path / (store.put(work, "batch-1", OUTCOME, b"bytes").key or "")
    os.utime(path, (0, 0))
    store.put(work, "batch-1", OUTCOME, b"bytes")
    assert path.stat().st_mtime > 0


def test_a_full_or_closed_disk_fails_the_crop_with_its_reason(tmp_path: Path) -> None:
    store = CropStore(StoreSpec(tmp_path.as_uri()))
    (tmp_path / "crops").write_text("a file where a folder must be")
    with pytest.raises(PhotoFailure) as failure:
        store.put(work_for(), "batch-1", OUTCOME, b"bytes")
    assert (failure.value.code, str(tmp_path) in str(failure.value)) == ("storage", False)


def test_an_s3_crop_carries_what_it_is_cut_from(s3: StoreSpec) -> None:
    work = work_for(Box("b/ö", 0, 0, 1, 1), image_id="id " + "x" * 1000)
    key = CropStore(s3).put(work, "batch-1", OUTCOME, b"bytes").key or ""
    found = boto3.client("s3", endpoint_url=s3.endpoint, region_name="us-east-1").get_object(
        Bucket="crops", Key=f"below/{key}"
    )
    assert found["Body"].read() == b"bytes"
    assert found["ContentType"] == "image/png"
    assert found["Metadata"] == {
        "source": "cameras",
        "image-id": ("id%20" + "x" * 1000)[:400],
        "box-id": "b/%C3%B6",
        "batch": "batch-1",
        "fingerprint": "f" * 64,
    }


def test_an_s3_that_is_not_there_fails_the_crop_with_its_reason(s3: StoreSpec) -> None:
    store = CropStore(StoreSpec("s3://no-such-bucket", s3.endpoint, "us-east-1"))
    with pytest.raises(PhotoFailure) as failure:
        store.put(work_for(), "batch-1", OUTCOME, b"bytes")
    assert failure.value.code == "storage"


def test_remote_puts_overlap_and_local_ones_need_no_thread(s3: StoreSpec, tmp_path: Path) -> None:
    assert CropStore(s3).concurrency > 4
    assert CropStore(StoreSpec(tmp_path.as_uri())).concurrency == 0
