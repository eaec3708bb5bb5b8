"""Settings of downloads: the places that photos may come from, and the limits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self, TypeVar

from pydantic import Field, SecretStr, field_validator, model_validator

from cropline.config.auth import AuthSettings
from cropline.config.group import Group
from cropline.config.proxy import ProxyUrl
from cropline.core.crop_options import AllowedBucket, FetchOptions, read_bucket
from cropline.core.hosts import check_authorities, read_host, read_private_network
from cropline.core.proxy import Proxy, read_proxy

_T = TypeVar("_T")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?")


class FetchSettings(Group):
    """How photos are downloaded, and where they may come from."""

    allowed_hosts: tuple[str, ...] = Field(
        (), description="hosts (host or host:port) that photos may come from; empty allows every public host"
    )
    private_networks: tuple[str, ...] = Field(
        (),
        description="private networks, such as 10.20.0.0/16, that allowed_hosts may resolve to: cameras on premises; "
        "never metadata addresses",
    )
    ca_file: Path | None = Field(
        None,
        description="PEM file, on every worker, of certificate authorities to trust besides the system's, for hosts on premises",
    )
    proxy: ProxyUrl = Field(
        SecretStr(""),
        description="HTTP proxy for photos, http://[user:password@]host:port; HTTP_PROXY and its like are not read",
    )
    proxy_resolves: bool = Field(
        False,
        description="the proxy resolves the photos' hosts, whose addresses cropline then cannot check: needs allowed_hosts; "
        "otherwise the proxy is asked for addresses that were checked",
    )
    allow_loopback: bool = Field(False, description="allow 127.0.0.0/8 and ::1: for the demo and for tests")
    allowed_buckets: tuple[str, ...] = Field(
        (),
        description="buckets that photos may be in, as s3://bucket, gs://bucket/folder, az://container, "
        "abfss://container@account.dfs.core.windows.net or a bare name; empty allows none",
    )
    bucket_endpoints: dict[str, str] = Field(
        {},
        description='servers of these buckets other than the clouds\' own, as {"s3": "http://host:port"}; '
        "a bucket in the storage's cloud uses the storage's server",
    )
    local_roots: tuple[Path, ...] = Field(
        (), description="folders, on every worker, that file:// photos may be in; empty allows none"
    )
    max_bytes: int = Field(25_000_000, gt=0, description="a larger photo is refused")
    timeout_s: float = Field(
        30, gt=0, le=3_600, description="time limit for one photo in total, with redirects and slow bodies"
    )
    connect_timeout_s: float = Field(5, gt=0, le=3_600, description="time limit for connecting to a photo's host")
    max_redirects: int = Field(3, ge=0, le=10, description="redirects that are followed for one photo")
    token: SecretStr = Field(SecretStr(""), description="bearer token sent with photo requests to token_host only")
    token_host: str = Field("", description="the only host[:port] that gets the token")
    auth: AuthSettings = Field(AuthSettings(), description="authentication at token_host, as for the image API")
    connections_per_host: int | None = Field(
        None,
        ge=1,
        le=256,
        description="connections to one host at one time, over all workers of a batch; empty: 8 for each worker, at least "
        "one for each crop process",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_read_entry(number, entry, read_host) for number, entry in enumerate(value))

    @field_validator("allowed_buckets")
    @classmethod
    def _are_buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, entry in enumerate(value):
            _read_entry(number, entry, read_bucket)
        return value

    @field_validator("bucket_endpoints")
    @classmethod
    def _are_endpoints(cls, value: dict[str, str]) -> dict[str, str]:
        if not set(value) <= {"s3", "gs", "az"} or not all(_ENDPOINT.fullmatch(server) for server in value.values()):
            raise ValueError('must be as {"s3": "http://host:port"}, for s3, gs and az')
        return value

    @field_validator("local_roots")
    @classmethod
    def _are_absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if any(not root.is_absolute() or root == Path("/") for root in value):
            raise ValueError("must be absolute paths of folders, and not /")
        return value

    @property
    def buckets(self) -> tuple[AllowedBucket, ...]:
        """allowed_buckets, parsed."""
        return tuple(read_bucket(entry) for entry in self.allowed_buckets)

    @property
    def stored_schemes(self) -> tuple[str, ...]:
        """URL schemes of photos that are allowed besides http and https."""
        clouds = {bucket.cloud for bucket in self.buckets}
        named = ("s3", "gs", "az") if None in clouds else tuple(sorted(cloud for cloud in clouds if cloud))
        azure = ("abfs", "abfss") if "az" in named else ()
        return (*named, *azure, *(("file",) if self.local_roots else ()))

    @field_validator("private_networks")
    @classmethod
    def _are_private(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(_read_entry(number, entry, read_private_network)) for number, entry in enumerate(value))

    @field_validator("token_host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        return read_host(value) if value else value

    @field_validator("ca_file")
    @classmethod
    def _is_pem(cls, value: Path | None) -> Path | None:
        if value is not None:
            check_authorities(value)
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.private_networks and not self.allowed_hosts:
            raise ValueError("private_networks needs allowed_hosts: name the hosts that may resolve to them")
        if self.proxy_resolves and not self.proxy.get_secret_value():
            raise ValueError("proxy_resolves needs proxy")
        if self.proxy_resolves and not self.allowed_hosts:
            raise ValueError("proxy_resolves needs allowed_hosts: name the hosts that the proxy may be asked for")
        if self.secret_token and not self.token_host:
            raise ValueError("token needs token_host: name the host[:port] that gets it")
        if self.auth.kind and not self.token_host:
            raise ValueError("auth needs token_host: name the host[:port] that gets it")
        if self.auth.kind in ("bearer", "header", "query") and not self.secret_token:
            raise ValueError(f"auth kind {self.auth.kind} needs token")
        return self

    @property
    def proxy_address(self) -> Proxy | None:
        """The proxy, parsed; None without one."""
        return read_proxy(self.proxy.get_secret_value())

    @property
    def secret_token(self) -> str:
        """The token of either setting."""
        return self.auth.token.get_secret_value() or self.token.get_secret_value()

    @property
    def options(self) -> FetchOptions:
        """The settings as plain values, for workers."""
        return FetchOptions(
            allowed_hosts=self.allowed_hosts,
            private_networks=self.private_networks,
            ca_file=self.ca_file,
            proxy=self.proxy_address,
            proxy_resolves=self.proxy_resolves,
            allow_loopback=self.allow_loopback,
            allowed_buckets=self.allowed_buckets,
            bucket_endpoints=self.bucket_endpoints,
            local_roots=self.local_roots,
            max_bytes=self.max_bytes,
            timeout_s=self.timeout_s,
            connect_timeout_s=self.connect_timeout_s,
            max_redirects=self.max_redirects,
            token_host=self.token_host,
            auth=replace(self.auth.options, token=self.secret_token),
            connections_per_host=self.connections_per_host,
        )


def _read_entry(number: int, entry: str, read: Callable[[str], _T]) -> _T:
    try:
        return read(entry)
    except ValueError as wrong:
        raise ValueError(f"entry {number}: {wrong}") from None
