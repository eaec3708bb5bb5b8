"""Settings of sources of files: their addresses, and what their formats imply."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cropline.core.store_address import read_address

_STAMP = "source_file.modified"

_FORMS: dict[str, dict[str, str]] = {
    "coco": {"box_format": "xywh", "coordinates": "pixels"},
    "yolo": {"box_format": "cxcywh", "coordinates": "normalised"},
    "label_studio": {"box_format": "xywh", "coordinates": "percent"},
}


def with_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return raw settings of a source, with what its kind and its format imply for those that are not set."""
    if data.get("kind") not in ("files", "bucket"):
        return dict(data)
    form = _FORMS.get(str(data.get("format", "")), {})
    fields = data.get("fields") or {}
    given = dict(fields) if isinstance(fields, Mapping) else fields.model_dump(exclude_unset=True)
    url = given.get("url") or "url"
    # Files seldom have all fields. These paths find what there is.
    paths = {
        "version": f"etag || sha256 || updated_at || ({url})",
        "updated_at": f"updated_at || {_STAMP}",
        "captured_at": f"captured_at || {_STAMP}",
    }
    if str(data.get("group_by_image", "")).lower() in ("true", "1", "yes", "on"):
        paths |= {"image_id": f"image_id || id || ({url})", "box_id": "box_id"}
    return {**form, **data, "fields": {**paths, **given}}


def check_files_url(value: str) -> str:
    """Return a path made absolute, or the URL of a storage. Raise ValueError for another address."""
    if not value.isprintable():
        raise ValueError("must not hold control characters")
    if "://" not in value:
        return str(Path(value).expanduser().absolute()) + ("/" if value.endswith("/") else "")
    if value.startswith("file:///"):
        return value
    scheme, _, rest = value.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in ("abfs", "abfss") and re.search(r"[@?#]", bucket):
        raise ValueError("must not hold credentials: they come from the cloud's own chain")
    if scheme not in ("s3", "gs", "az", "abfs", "abfss"):
        raise ValueError("must be a path, or file:///, s3://, gs://, az:// or abfss:// with a bucket")
    read_address(f"{scheme}://{bucket}")
    if "//" in key or {".", ".."} & set(key.split("/")):
        raise ValueError("must not hold an empty folder (//), . or ..")
    return value
