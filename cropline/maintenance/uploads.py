"""Aborts unfinished multipart uploads on S3. Killed processes leave them; no reader sees them, but they are billed.

boto3 lists them, because obstore cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cropline.catalogue.delta import NAME as CATALOGUE
from cropline.core.errors import StorageError
from cropline.core.keys import CROPS
from cropline.maintenance.result import CleanupResult
from cropline.packs.spool import SHARDS

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

# Prefixes that are written in parts. The storage may be a whole bucket, in which others write too.
_OURS = (CROPS, SHARDS, CATALOGUE)
# Some keys may not list uploads, and some S3-compatible servers cannot.
_REFUSALS = (403, 405, 501)


def end_uploads(spec: StoreSpec, before: datetime, *, dry_run: bool) -> list[CleanupResult]:
    """Abort uploads of crops, packs and catalogue begun before a time. A store that refuses the listing is reported."""
    if spec.scheme != "s3":
        return []
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, prefix = spec.address.bucket, spec.address.prefix
    client = _client(spec)
    count = 0
    try:
        for folder in _OURS:
            for upload in _uploads(client, bucket, f"{prefix}/{folder}/".lstrip("/")):
                if upload["Initiated"] < before:
                    if not dry_run:
                        _end(client, bucket, upload)
                    count += 1
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in _REFUSALS:
            return [
                CleanupResult(
                    f"unfinished uploads, left to a rule of the bucket ({error.response['Error']['Code']})", 0
                )
            ]
        raise StorageError(f"cannot list uploads below {spec.url}: {error.response['Error']['Code']}") from error
    except BotoCoreError as error:
        raise StorageError(f"cannot list uploads below {spec.url}: {type(error).__name__}") from error
    return [CleanupResult("unfinished uploads", count)]


def _client(spec: StoreSpec) -> Any:
    from boto3 import Session
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path" if spec.endpoint else "auto"})
    return Session(region_name=spec.region).client("s3", endpoint_url=spec.endpoint, config=config)


def _uploads(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        yield from page.get("Uploads", ())


def _end(client: Any, bucket: str, upload: dict[str, Any]) -> None:
    with suppress(client.exceptions.NoSuchUpload):  # its writer has ended it in the meantime
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
