"""Whatever a storage's folder is called, all its files are in one place, or a run refuses the address at its start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import boto3
import pyarrow as pa
import pytest

from cropline.catalogue import Catalogue
from cropline.catalogue.crop_files import open_crop
from cropline.config.settings import load_settings
from cropline.core import storage, store_probe
from cropline.core.errors import SettingsError
from cropline.core.store_spec import StoreSpec
from cropline.erasure.traces import Packs, collect, remove
from cropline.export import Choice, Layout, export
from cropline.packs import Sample, Spool, pack_folder
from fugue_jobs.pool.storing import CropStore
from fugue_jobs.work import CropOutcome
from tests.emulators.s3 import s3_server
from tests.photos import drawn, encoded
from tests.unit.cropline.catalogue.test_catalogue import crops
from tests.unit.fugue_jobs.imaging.cutting import work_for

# Folder names that a storage accepts. A bucket's prefix accepts the same, unquoted.
FINE = ["a b/ä/日本/e\u0301", "a+b/a&b/a=b;a'b\"", "a{b}/a*b~,(a)@$!", "%/a%zz/a..b/ a"]
REFUSED = ["a%20b", "a%41", "a%2Fb", "%c3%a4", "a\\b", "a[b]", "a|b", "a^b", "a\tb", "a\nb", "a\u202eb", "..", "a/../b"]
# Characters of the address syntax: a folder's name has them quoted, a prefix cannot contain them.
QUOTED = ["a#b/a?b", "a#", "a?"]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)


def _spec(monkeypatch: pytest.MonkeyPatch, url: str, endpoint: str | None = None) -> StoreSpec:
    monkeypatch.setenv("CROPLINE_STORAGE__URL", url)
    if endpoint is not None:
        monkeypatch.setenv("CROPLINE_STORAGE__ENDPOINT", endpoint)
    return load_settings().storage.spec


def _refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(SettingsError, match=r"^CROPLINE_STORAGE__URL: [^\n]+$"):
        _spec(monkeypatch, url)


def _use(spec: StoreSpec, out: Path) -> None:
    """Do what a run, an export and an erasure do. A manifest and the catalogue remain, and nothing of the photo."""
    store_probe.require(spec)
    storage.write(spec, "manifests/cameras/2026-11-22/m.parquet", b"rows")
    data, work = encoded(drawn(40, 30, seed=1)), work_for(image_id="photo")
    key = CropStore(spec).put(work, "b1", CropOutcome(0, 0, "written", format="png"), data).key
    spool = Spool(spec, "shards", pack_folder("p0", "b1"))
    spool.add(Sample("0000", "png", {"key": "crops/0000.png"}, data))
    shard, sealed = spool.put()
    written = {"bytes": len(data), "store_name": None}
    rows = [
        crops(["photo"], boxes=1, key=key, **written),
        crops(["other"], boxes=1, key="crops/0000.png", shard=shard, offset=sealed.offsets[0], **written),
    ]
    catalogue = Catalogue(spec)
    catalogue.append(pa.concat_tables(rows), batch_id="b1", attempt=1, flow_run="f", committed_at=datetime.now(UTC))
    for row in catalogue.rows().to_pylist():
        assert open_crop(row, spec).read() == data
    assert export(spec, out, Choice(), Layout("folder")).crops == 2
    remove(
        spec,
        "cameras",
        collect(spec, "cameras", ["photo", "other"], Packs(spec, "cameras", ["photo", "other"])),
        lambda: None,
    )
    assert catalogue.rows().num_rows == 0


def _kinds(keys: set[str]) -> set[str]:
    return {key.partition("/")[0] for key in keys}


LEFT = {".cropline", "catalogue", "manifests"}


@pytest.mark.parametrize("name", [*FINE, *QUOTED])
def test_a_folder_holds_all_of_its_storage_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "store" / name
    _use(_spec(monkeypatch, root.as_uri()), tmp_path / "out")
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert _kinds({str(path.relative_to(root)) for path in files}) == LEFT


@pytest.mark.parametrize("name", FINE)
def test_a_prefix_holds_all_of_its_storage_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3: str, name: str
) -> None:
    bucket = f"named-{uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket=bucket)
    _use(_spec(monkeypatch, f"s3://{bucket}/{name}/below", s3), tmp_path / "out")
    keys = {entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert _kinds({key.removeprefix(f"{name}/below/") for key in keys}) == LEFT


@pytest.mark.parametrize("name", REFUSED)
def test_an_ambiguous_folder_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _refused(monkeypatch, f"file:///data/{quote(name)}/below")
    if "\n" not in name:  # no shell variable contains one by accident
        _refused(monkeypatch, f"s3://bucket/{name}/below")


@pytest.mark.parametrize("name", QUOTED)
def test_an_address_with_a_query_or_a_fragment_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for url in (f"s3://bucket/{name}", f"file:///data/{name}", f"gs://bucket/{name}"):
        _refused(monkeypatch, url)


@pytest.mark.parametrize(
    "url",
    ["s3:///a", "s3://a b/c", "s3://ä/c", "s3://%41/c", "s3://key:secret@bucket/x", "gs://", "az:///x", "abfss://c@h/x",
     "abfss://account.dfs.core.windows.net/x", "s3://bucket/a//b", "file://host/x", "file:x", "relative/folder", "S3x://b", "http://b/c"],
)  # fmt: skip
def test_an_address_of_no_known_form_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    _refused(monkeypatch, url)
