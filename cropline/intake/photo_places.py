"""Whether the photos of a source of photos may be read."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from cropline.config.settings import Settings
from cropline.core.errors import SettingsError
from cropline.core.store_address import read_address


def check_photo_place(settings: Settings) -> None:
    """Raise SettingsError when the source lists photos in a bucket or a folder that the photo settings do not allow."""
    api = settings.api
    if not (api.kind == "bucket" or (api.kind == "files" and api.format == "yolo")) or not api.url:
        return
    fetch = settings.fetch
    scheme, mark, rest = api.url.partition("://")
    if not mark or scheme == "file":
        path = Path(unquote(rest) if mark else api.url)
        if not any(path.is_relative_to(root) for root in fetch.local_roots):
            raise SettingsError(
                f"CROPLINE_FETCH__LOCAL_ROOTS: the photos are below {path}, which is not allowed; add that folder"
            )
        return
    bucket, _, key = rest.partition("/")
    address = read_address(f"{scheme}://{bucket}")
    for allowed in fetch.buckets:
        same = (allowed.bucket, allowed.account) == (address.bucket, address.account)
        below = not allowed.prefix or f"{key}/".startswith(f"{allowed.prefix}/")
        if same and below and allowed.cloud in (None, address.cloud):
            return
    raise SettingsError(
        f"CROPLINE_FETCH__ALLOWED_BUCKETS: the photos are in {scheme}://{bucket}, which is not allowed; add it"
    )
