"""Which places the photo settings allow for photos that a source lists, and for files that a form names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cropline.config.settings import ApiSettings, FetchSettings, Settings
from cropline.core.errors import SettingsError
from cropline.intake.photo_places import check_named_files, check_photo_place


def allowed(url: str, root: Path) -> bool:
    fetch = FetchSettings(local_roots=(root,), allowed_buckets=("s3://shop/in", "gs://any"))
    settings = Settings(api=ApiSettings(kind="bucket", url=url), fetch=fetch)
    return _passes(check_photo_place, settings) and _passes(check_named_files, settings)


def _passes(check: Callable[[Settings], None], settings: Settings) -> bool:
    try:
        check(settings)
    except SettingsError:
        return False
    return True


def test_a_refusal_names_the_setting() -> None:
    for url, setting in (("/etc/x", "LOCAL_ROOTS"), ("s3://b/x", "ALLOWED_BUCKETS")):
        with pytest.raises(SettingsError, match=f"^CROPLINE_FETCH__{setting}: .* not allowed; add"):
            check_named_files(Settings(api=ApiSettings(kind="files", url=url)))


@pytest.mark.parametrize("below", ["", "/a", "/a/*.csv", "/**/*.jpg"])
def test_a_place_below_a_root_is_allowed(tmp_path: Path, below: str) -> None:
    (tmp_path / "root").mkdir()
    assert allowed(f"{tmp_path}/root{below}", tmp_path / "root")
    assert allowed(f"file://{tmp_path}/root{below}", tmp_path / "root")


@pytest.mark.parametrize(
    "elsewhere", ["/etc/passwd", "{root}/../other/*.csv", "{root}2/a", "file:///etc/*", "{root}/link/x"]
)
def test_a_place_elsewhere_is_refused(tmp_path: Path, elsewhere: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    assert not allowed(elsewhere.format(root=root), root)


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("s3://shop/in/", True),
        ("s3://shop/in/*.csv", True),
        ("gs://any/x", True),
        ("s3://shop/inner", False),
        ("s3://shop", False),
        ("gs://shop/in", False),
        ("az://any", False),
    ],
)
def test_a_bucket_is_allowed_by_its_cloud_name_and_prefix(tmp_path: Path, url: str, answer: bool) -> None:
    assert allowed(url, tmp_path) is answer
