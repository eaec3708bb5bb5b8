"""Whether the photo settings allow a place: for photos that a source lists, and for files that a form names."""

from __future__ import annotations

import os
from urllib.parse import unquote

from cropline.config.fetch import FetchSettings
from cropline.config.settings import Settings
from cropline.core.errors import SettingsError
from cropline.core.store_address import read_address


def check_photo_place(settings: Settings) -> None:
    """Raise SettingsError when the source lists photos in a bucket or a folder that the photo settings do not allow."""
    api = settings.api
    if api.url and (api.kind == "bucket" or (api.kind == "files" and api.format == "yolo")):
        _check(api.url, settings.fetch, "the photos are")


def check_named_files(settings: Settings) -> None:
    """Raise SettingsError when files that the form of a deployment names are elsewhere than photos may be.

    Whoever starts a run could read any file of the worker otherwise.
    """
    _check(settings.api.url, settings.fetch, "the files of a deployment's run are")


def _check(url: str, fetch: FetchSettings, what: str) -> None:
    scheme, mark, rest = url.partition("://")
    if not mark or scheme == "file":
        path = os.path.realpath(unquote(rest) if mark else url)
        roots = [os.path.realpath(root) for root in fetch.local_roots]
        if not any(os.path.commonpath([root, path]) == root for root in roots):
            raise SettingsError(
                f"CROPLINE_FETCH__LOCAL_ROOTS: {what} below {path}, which is not allowed; add that folder"
            )
        return
    bucket, _, key = rest.partition("/")
    address = read_address(f"{scheme}://{bucket}")
    for allowed in fetch.buckets:
        same = (allowed.bucket, allowed.account) == (address.bucket, address.account)
        below = not allowed.prefix or f"{key}/".startswith(f"{allowed.prefix}/")
        if same and below and allowed.cloud in (None, address.cloud):
            return
    raise SettingsError(f"CROPLINE_FETCH__ALLOWED_BUCKETS: {what} in {scheme}://{bucket}, which is not allowed; add it")
