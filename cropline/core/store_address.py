"""Parser of storage addresses, so that obstore, delta-rs and our keys decode an address in the same way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

Cloud = Literal["file", "memory", "s3", "gs", "az"]

FORMS = (
    "file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, "
    "abfss://container@account.dfs.core.windows.net/prefix or memory:///"
)

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_AZURE_HOST = re.compile(r"([a-z0-9]{3,24})\.(?:dfs|blob)\.core\.[a-z0-9.]+")
_CLOUDS: dict[str, Cloud] = {"s3": "s3", "gs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
# delta-rs decodes an address once more than obstore does, and aborts the process on the _REFUSED characters.
_DECODED_TWICE = re.compile(r"%[0-9A-Fa-f]{2}")
_HADOOP = ("abfs", "abfss")
_REFUSED = "\\[]|^"


@dataclass(frozen=True)
class StoreAddress:
    """A storage's place. ``prefix`` is the path of a local folder, or the prefix of keys in a bucket."""

    cloud: Cloud
    bucket: str
    prefix: str
    account: str | None = None  # Azure, when the address names it

    @property
    def local_path(self) -> Path | None:
        return Path(self.prefix) if self.cloud == "file" else None


@lru_cache(maxsize=256)
def read_address(url: str) -> StoreAddress:
    """Parse an address. Raise ValueError, without the address, when its form is unknown."""
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return StoreAddress("memory", "", "")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return StoreAddress("file", "", str(Path(unquote(parts.path))))
    cloud = _CLOUDS.get(parts.scheme)
    if cloud is None or not parts.netloc:
        raise ValueError(f"must be {FORMS}")
    bucket, account = _azure(parts.netloc) if parts.scheme in _HADOOP else (parts.netloc, None)
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("the name of its bucket or container has characters that are not allowed")
    return StoreAddress(cloud, bucket, parts.path.strip("/"), account)


def check_address(url: str) -> None:
    """Raise ValueError, without the address, for one that obstore, delta-rs and our keys would read differently."""
    if not unquote(url).isprintable():
        raise ValueError("must not hold control characters")
    parts = urlsplit(url)
    if "#" in url or "?" in url or ("@" in parts.netloc and parts.scheme not in _HADOOP):
        written = "; a # or ? in a folder's name is written %23 or %3F" if parts.scheme == "file" else ""
        raise ValueError(f"must not hold credentials, a query or a fragment{written}")
    address = read_address(url)
    if any(character in address.prefix for character in _REFUSED):
        raise ValueError(f"must not hold one of {' '.join(_REFUSED)}: the catalogue cannot be stored there")
    if found := _DECODED_TWICE.search(address.prefix):
        raise ValueError(f"a folder's name must not hold {found[0]}: the catalogue would be stored in another folder")
    folders = address.prefix.strip("/").split("/")
    if {".", ".."} & set(folders) or ("" in folders and address.prefix.strip("/")):
        raise ValueError("must not hold an empty folder (//), . or ..")


def _azure(netloc: str) -> tuple[str, str]:
    container, _, host = netloc.partition("@")
    found = _AZURE_HOST.fullmatch(host)
    if found is None:
        raise ValueError("must be abfss://container@account.dfs.core.windows.net/prefix")
    return container, found[1]
