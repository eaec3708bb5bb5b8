"""What cutting needs of the settings, as plain values that travel to workers and crop processes.

The settings make them, checked (FetchSettings.options, PictureLimits.options). Here is nothing of the settings' own
library: its import takes longer than the rest of a crop process's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.core.store_address import read_address

if TYPE_CHECKING:
    from cropline.core.proxy import Proxy

# Connections to one host from one worker without a limit of the user's.
CONNECTIONS_PER_WORKER = 8


@dataclass(frozen=True)
class AuthOptions:
    """How a client authenticates: AuthSettings. Its repr shows no secret."""

    kind: str
    token: str = field(repr=False)  # of either setting
    header: str
    prefix: str
    param: str
    user: str
    password: str = field(repr=False)
    token_url: str
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    scope: str


@dataclass(frozen=True)
class FetchOptions:
    """How photos are downloaded, and where they may come from: FetchSettings. Its repr shows no secret."""

    allowed_hosts: tuple[str, ...]
    private_networks: tuple[str, ...]
    ca_file: Path | None
    proxy: Proxy | None
    proxy_resolves: bool
    allow_loopback: bool
    allowed_buckets: tuple[str, ...]
    bucket_endpoints: dict[str, str]
    local_roots: tuple[Path, ...]
    max_bytes: int
    timeout_s: float
    connect_timeout_s: float
    max_redirects: int
    token_host: str
    auth: AuthOptions
    connections_per_host: int | None

    @property
    def buckets(self) -> tuple[AllowedBucket, ...]:
        """allowed_buckets, parsed."""
        return tuple(read_bucket(entry) for entry in self.allowed_buckets)


@dataclass(frozen=True)
class PictureOptions:
    """Limits of photos: PictureLimits."""

    formats: tuple[str, ...]
    max_pixels: int
    max_side: int
    max_scans: int
    max_boxes: int
    decode_timeout_s: float
    min_iou: float
    size_mismatch: str


@dataclass(frozen=True)
class AllowedBucket:
    """A bucket that photos may be in. ``cloud`` None: a bucket of this name in any cloud."""

    cloud: str | None
    bucket: str
    prefix: str = ""
    account: str | None = None


@lru_cache(maxsize=256)
def read_bucket(entry: str) -> AllowedBucket:
    """Parse an entry of allowed_buckets. Raise ValueError when it is not a bucket."""
    if "://" not in entry:
        entry, cloud = f"s3://{entry}", None
        address = read_address(entry)
    else:
        address = read_address(entry)
        cloud = address.cloud
    if address.cloud not in ("s3", "gs", "az"):
        raise ValueError("must be s3://bucket, gs://bucket, az://container or a bucket's name")
    return AllowedBucket(cloud, address.bucket, address.prefix, address.account)
