"""Photos in buckets of each cloud and in folders; nothing is read that the settings do not allow."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from cropline.catalogue.crop_files import open_crop
from cropline.config.pictures import PictureLimits
from cropline.config.settings import FetchSettings, load_settings
from cropline.core import storage
from cropline.core.errors import SettingsError
from cropline.core.failures import PhotoFailure
from cropline.core.store_spec import StoreSpec
from fugue_jobs.fetching.fetch import Fetcher
from fugue_jobs.pool.assignment import Assignment
from fugue_jobs.pool.crop_pool import CropPool
from tests.contract.stores.conftest import new_storage
from tests.photos import drawn, encoded
from tests.unit.fugue_jobs.imaging.cutting import work_for

PHOTO = encoded(drawn(64, 48, seed=1))
ODD_KEY = "a b/100%41#ü+?.jpg"
CLOUDS = ("s3", "az", "gs")


def _reason(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(PhotoFailure) as caught:
        fetcher.fetch(url)
    for secret in ("canary", "secret", "/etc"):
        assert secret not in caught.value.detail
    return caught.value.code


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_photo_in_an_allowed_bucket_is_read_and_checked_against_its_declaration(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = new_storage(kind, request, monkeypatch, tmp_path)
    bucket = here.url.rpartition("/")[0]
    photos = StoreSpec(bucket, here.endpoint, here.region)
    storage.write(photos, ODD_KEY, PHOTO)
    storage.write(photos, "canary/empty.jpg", b"")
    sha256 = hashlib.sha256(PHOTO).hexdigest()
    with Fetcher(FetchSettings(allowed_buckets=[bucket], max_bytes=len(PHOTO)).options, here) as fetcher:
        photo = fetcher.fetch(f"{bucket}/{ODD_KEY}", expected_bytes=len(PHOTO), expected_sha256=sha256)
        assert (photo.data, photo.sha256) == (PHOTO, sha256)
        assert _reason(fetcher, f"{bucket}/canary/none.jpg") == "http_404"
        assert _reason(fetcher, f"{bucket}x/canary.jpg") == "forbidden_place"
        for key in ("", "../canary", "a//canary", "a\\canary", "a/./canary"):
            assert _reason(fetcher, f"{bucket}/{key}") == "bad_url", key
        with pytest.raises(PhotoFailure) as caught:
            fetcher.fetch(f"{bucket}/{ODD_KEY}", expected_sha256="0" * 64)
        assert caught.value.code == "hash_mismatch"
    with Fetcher(FetchSettings(allowed_buckets=[bucket], max_bytes=len(PHOTO) - 1).options, here) as fetcher:
        assert _reason(fetcher, f"{bucket}/{ODD_KEY}") == "too_large"
    with Fetcher(FetchSettings(allowed_buckets=[f"{bucket}/a b"]).options, here) as fetcher:
        assert fetcher.fetch(f"{bucket}/{ODD_KEY}").data == PHOTO
        assert _reason(fetcher, f"{bucket}/a bc/canary.jpg") == "forbidden_place"
    for nothing in ((), ("other",), (f"{bucket}-b",)):
        with Fetcher(FetchSettings(allowed_buckets=nothing).options, here) as fetcher:
            assert _reason(fetcher, f"{bucket}/{ODD_KEY}") == "forbidden_place"


def test_a_bucket_that_refuses_the_key_or_hangs_gives_a_reason(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = new_storage("az", request, monkeypatch, tmp_path)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "Y2FuYXJ5LWNhbmFyeQ==")
    with Fetcher(FetchSettings(allowed_buckets=[here.address.bucket]).options, here) as fetcher:
        assert _reason(fetcher, f"az://{here.address.bucket}/canary.jpg") == "http_4xx"


def test_photos_and_crops_may_lie_in_different_clouds(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Through a crop process, as in a run."""
    photos = new_storage("gs", request, monkeypatch, tmp_path)
    crops = new_storage("az", request, monkeypatch, tmp_path)
    storage.write(photos, "1.jpg", PHOTO)
    fetch = FetchSettings(allowed_buckets=[photos.url], bucket_endpoints={"gs": photos.endpoint}).options
    with CropPool(Assignment(crops, fetch, PictureLimits().options), 1) as pool:
        work = work_for(url=photos.uri("1.jpg"))
        (crop,) = [crop for _, outcome in pool.run([work], "b-1") for crop in outcome.crops]
    assert crop.reason is None
    assert hashlib.sha256(open_crop(crop._asdict(), crops).read()).hexdigest() == crop.sha256


def test_files_are_read_below_their_roots_and_nowhere_else(tmp_path: Path) -> None:
    root, outside = tmp_path / "photos ü", tmp_path / "secret"
    (root / "in").mkdir(parents=True)
    outside.mkdir()
    (root / "in" / "a b#1.jpg").write_bytes(PHOTO)
    (outside / "canary.jpg").write_bytes(PHOTO)
    (root / "link.jpg").symlink_to(outside / "canary.jpg")
    (root / "folder").symlink_to(outside)
    (root / "good.jpg").symlink_to(root / "in" / "a b#1.jpg")
    (tmp_path / "photos ü-other").mkdir()
    (tmp_path / "photos ü-other" / "x.jpg").write_bytes(PHOTO)
    os.mkfifo(root / "pipe")
    (tmp_path / "root").symlink_to(root)
    for allowed in (root, tmp_path / "root"):
        with Fetcher(FetchSettings(local_roots=[allowed]).options) as fetcher:
            assert fetcher.fetch((root / "in" / "a b#1.jpg").as_uri()).data == PHOTO
            assert fetcher.fetch((root / "good.jpg").as_uri()).data == PHOTO
            assert _reason(fetcher, (root / "none.jpg").as_uri()) == "http_404"
            assert _reason(fetcher, (root / "pipe").as_uri()) == "not_a_picture"
            for path in ("link.jpg", "folder/canary.jpg", "../secret/canary.jpg", "in/../../secret/canary.jpg", ""):
                assert _reason(fetcher, f"{root.as_uri()}/{path}") == "forbidden_place", path
            for url in (f"file://{tmp_path}-other", "file:///etc/passwd", (tmp_path / "photos ü-other/x.jpg").as_uri(),
                        f"{root.as_uri()}/%2e%2e/secret/canary.jpg", "FILE:///etc/hostname"):  # fmt: skip
                assert _reason(fetcher, url) == "forbidden_place", url
            for url in (f"file://host{root}/x.jpg", "file://x", f"{root.as_uri()}/x?y", f"{root.as_uri()}/%00"):
                assert _reason(fetcher, url) == "bad_url", url
    with Fetcher(FetchSettings(local_roots=[root], max_bytes=10).options) as fetcher:
        assert _reason(fetcher, (root / "good.jpg").as_uri()) == "too_large"
    with Fetcher(FetchSettings().options) as fetcher:
        assert _reason(fetcher, (root / "good.jpg").as_uri()) == "forbidden_place"


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALLOWED_BUCKETS", ["ftp://x"]), ("ALLOWED_BUCKETS", ["file:///x"]), ("ALLOWED_BUCKETS", ["a b"]), ("LOCAL_ROOTS", ["photos"]),
     ("LOCAL_ROOTS", ["/"]), ("BUCKET_ENDPOINTS", {"ftp": "http://x"}), ("BUCKET_ENDPOINTS", {"s3": "http://u:p@x"})],
)  # fmt: skip
def test_an_invalid_allow_list_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setenv(f"CROPLINE_FETCH__{name}", json.dumps(value))
    with pytest.raises(SettingsError, match=f"^CROPLINE_FETCH__{name}: [^\\n]+$"):
        load_settings()
