"""The S3 of the tests keeps the promise that the store probe asks for."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.emulators.s3 import s3_server


def _create(client: Any, key: str) -> bool:
    """Return whether this create won."""
    try:
        client.put_object(Bucket="crops", Key=key, Body=b"x", IfNoneMatch="*")
    except ClientError:
        return False
    return True


def test_of_creates_at_once_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round is a chance only: without the lock, and with threads that change places often, 24 of 400 failed."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with s3_server() as url, ThreadPoolExecutor(4) as pool:
        client = boto3.client("s3", endpoint_url=url)
        client.create_bucket(Bucket="crops")
        often, usual = 1e-6, sys.getswitchinterval()
        sys.setswitchinterval(often)
        try:
            winners = [sum(pool.map(_create, repeat(client, 4), repeat(f"key-{number}", 4))) for number in range(50)]
        finally:
            sys.setswitchinterval(usual)
    assert winners == [1] * 50
