"""The store operations that every step uses, on each kind of store."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest

from cropline.catalogue.crop_files import open_crop
from cropline.config.lineage import LineageSettings
from cropline.core import storage, store_probe
from cropline.core.errors import StorageError
from cropline.core.store_spec import StoreSpec
from cropline.lineage import Publisher
from cropline.packs import Sample, Spool, pack_folder
from fugue_jobs.pool.storing import CropStore
from fugue_jobs.work import Box, CropOutcome
from tests.contract.stores.conftest import new_storage
from tests.emulators.azurite import ACCOUNT, Azurite
from tests.unit.fugue_jobs.imaging.cutting import work_for

ODD = "Ünïcode #1 %41 漢字 \n"


def test_it_keeps_every_promise(spec: StoreSpec) -> None:
    store_probe.require(spec)
    assert storage.list_keys(spec, "") == [store_probe.RECORD]


def test_what_is_written_is_read_listed_and_looked_at(spec: StoreSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    assert storage.write(spec, "a/1", b"0123456789")
    assert storage.write(spec, "a/2", tmp_path / "file")
    assert storage.write(spec, "b/3", io.BytesIO(b"from a stream"))
    assert not storage.write(spec, "a/1", b"other", only_new=True)
    assert storage.write(spec, "a/4", b"", only_new=True)
    assert storage.read(spec, "a/1") == b"0123456789"
    assert storage.read_range(spec, "a/1", 3, 4) == b"3456"
    assert b"".join(storage.stream(spec, "a/2")) == b"from a file"
    with storage.open_object(spec, "a/1") as file:
        file.seek(-3, io.SEEK_END)
        assert file.read() == b"789"
    assert storage.list_keys(spec, "a") == ["a/1", "a/2", "a/4"]
    assert storage.list_folders(spec, "") == ["a", "b"]
    assert (storage.exists(spec, "a/1"), storage.exists(spec, "a/none")) == (True, False)
    missing = datetime(2000, 1, 1, tzinfo=UTC)
    assert storage.written_at(spec, "none", missing) == missing
    assert datetime.now(UTC) - storage.written_at(spec, "a/1", missing) < timedelta(hours=1)
    assert storage.read_if_there(spec, "none") is None
    for read in (storage.read, lambda spec, key: storage.read_range(spec, key, 0, 1), storage.open_object):
        with pytest.raises(StorageError, match="none"):
            read(spec, "none")
    with pytest.raises(StorageError):
        storage.read_range(spec, "a/1", 8, 5)


def test_a_delete_that_meets_missing_keys_goes_on(spec: StoreSpec) -> None:
    for number in range(12):
        storage.write(spec, f"gone/{number:02d}", b"x")
    storage.write(spec, "stays", b"x")
    keys = [key for number in range(12) for key in (f"gone/{number:02d}", f"gone/never-{number}")]
    storage.delete(spec, keys)
    assert storage.list_keys(spec, "") == ["stays"]
    storage.delete(spec, keys)
    storage.delete(spec, [])


def test_a_crop_carries_where_it_came_from_whatever_its_ids(spec: StoreSpec) -> None:
    work = work_for(Box(ODD, 0, 0, 1, 1), image_id=ODD)
    done = CropStore(spec).put(work, "batch-1", CropOutcome(0, 0, "written", format="png"), b"bytes")
    assert storage.read(spec, done.key or "") == b"bytes"
    if spec.local_path is None:
        kept = obstore.get(storage.open_store(spec), done.key or "").attributes
        named = {name.replace("_", "-"): value for name, value in kept.items()}
        assert named["Content-Type"] == "image/png"
        assert named["image-id"] == named["box-id"] == "%C3%9Cn%C3%AFcode%20%231%20%2541%20%E6%BC%A2%E5%AD%97%20%0A"


@pytest.mark.parametrize("kind", ["shards", "parquet"])
def test_packs_are_stored_whole_and_read_in_parts(spec: StoreSpec, kind: str) -> None:
    pictures = [bytes([number]) * 3_000_000 for number in range(3)]  # more than one part of an upload
    spool = Spool(spec, kind, pack_folder("default", "b1"))
    for number, data in enumerate(pictures):
        facts = {"key": f"k{number}", "sha256": hashlib.sha256(data).hexdigest()}
        spool.add(Sample(f"s{number}", "jpg", facts, data))
    shard, sealed = spool.put()
    for number, data in enumerate(pictures):
        row = {"key": f"k{number}", "shard": shard, "offset": sealed.offsets[number], "bytes": len(data)}
        assert open_crop(row, spec).read() == data


def test_lineage_goes_into_the_storage(spec: StoreSpec) -> None:
    assert Publisher(LineageSettings(timeout_s=30), spec).publish([{"eventTime": "2026-11-22T08:00:00Z"}]).complete
    (key,) = storage.list_keys(spec, "lineage")
    assert storage.read(spec, key) == b'{"eventTime":"2026-11-22T08:00:00Z"}\n'


def test_azure_by_its_full_address_and_by_a_signature(
    az: Azurite, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = new_storage("az", request, monkeypatch, tmp_path)
    storage.write(plain, "a", b"x")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    full = StoreSpec(f"abfss://{plain.address.bucket}@{ACCOUNT}.dfs.core.windows.net/büro 1", az.url)
    assert storage.read(full, "a") == b"x"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", az.sas())
    signed = StoreSpec(plain.url, az.url, account=ACCOUNT)
    storage.write(signed, "b", b"y")  # not deleted: Azurite answers 500 to a batch by a signature
    assert storage.list_keys(signed, "") == ["a", "b"]


@pytest.mark.parametrize("kind", ["az", "gs"])
def test_a_wrong_key_is_one_line_without_it(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = new_storage(kind, request, monkeypatch, tmp_path)
    if kind == "az":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "Y2FuYXJ5LTdmM2E=")
    else:
        from tests.emulators.gcs import Gcs

        with Gcs() as other:
            monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", other.account)
    with pytest.raises(StorageError) as caught:
        storage.write(spec, "a", b"x")
    assert str(caught.value).startswith(f"cannot write {spec.url}/a at {spec.endpoint}: ")
    assert "\n" not in str(caught.value)
    assert "Y2FuYXJ5" not in str(caught.value)
