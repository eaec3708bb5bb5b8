"""An empty storage on each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from cropline.core.store_spec import StoreSpec
from tests.emulators.azurite import ACCOUNT, KEY, Azurite, azurite
from tests.emulators.gcs import Gcs, gcs_server
from tests.emulators.s3 import s3_server

KINDS = ("file", "s3", "az", "gs")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(scope="session")
def az() -> Iterator[Azurite]:
    with azurite() as server:
        yield server


@pytest.fixture(scope="session")
def gs() -> Iterator[Gcs]:
    with gcs_server() as server:
        yield server


@pytest.fixture(params=KINDS)
def spec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StoreSpec:
    """Return an empty storage; its cloud's credentials are in the environment, as users set them."""
    return new_storage(request.param, request, monkeypatch, tmp_path)


def new_storage(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> StoreSpec:
    """Return a storage in a new bucket, below a prefix with a blank and an umlaut."""
    name = f"stores-{uuid4().hex[:8]}"
    if kind == "file":
        return StoreSpec((tmp_path / "büro 1").as_uri())
    server = request.getfixturevalue(kind)
    if kind == "s3":
        for variable, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test")):
            monkeypatch.setenv(f"AWS_{variable}", value)
        boto3.client("s3", endpoint_url=server, region_name="us-east-1").create_bucket(Bucket=name)
        return StoreSpec(f"s3://{name}/büro 1", server, "us-east-1")
    if kind == "az":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        server.create(name)
        return StoreSpec(f"az://{name}/büro 1", server.url)
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", server.account)
    server.buckets[name] = {}
    return StoreSpec(f"gs://{name}/büro 1", server.url)
