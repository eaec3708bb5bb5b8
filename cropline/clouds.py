"""A storage's address becomes obstore's store and delta-rs' options: for each cloud the same server and the same credentials."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cropline.errors import StorageError
from cropline.scrub import one_line

if TYPE_CHECKING:
    from boto3 import Session
    from botocore.credentials import Credentials
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from cropline.storage import StoreSpec

_HASTY_S = timedelta(seconds=5)
_HASTY: RetryConfig = {"max_retries": 1, "retry_timeout": _HASTY_S}


def open_cloud(spec: StoreSpec, *, patient: bool) -> ObjectStore:
    """The store behind a spec. Raises StorageError, OSError or ValueError when it cannot be opened."""
    from obstore.store import LocalStore, MemoryStore

    address = spec.address
    if address.cloud == "memory":
        return MemoryStore()
    if address.local_path is not None:
        address.local_path.mkdir(parents=True, exist_ok=True)
        return LocalStore(prefix=address.local_path)
    return _open_s3(spec, patient)


def delta_options(spec: StoreSpec) -> dict[str, str] | None:
    """delta-rs' storage options. Credentials come fresh from boto3's chain each time: they may have expired."""
    if spec.address.cloud != "s3":
        return None
    session, credentials = aws(spec)
    frozen = credentials.get_frozen_credentials()
    options = {
        "aws_access_key_id": frozen.access_key,
        "aws_secret_access_key": frozen.secret_key,
        "aws_session_token": frozen.token,
        "aws_region": session.region_name or "us-east-1",
        # Two commits of one version: the store itself lets one of them pass.
        "aws_conditional_put": "etag",
        "aws_endpoint": spec.endpoint,
    }
    if spec.endpoint is not None:
        options["aws_virtual_hosted_style_request"] = "false"
        options["aws_allow_http"] = str(spec.endpoint.startswith("http://")).lower()
    return {name: value for name, value in options.items() if value is not None}


def aws(spec: StoreSpec) -> tuple[Session, Credentials]:
    """boto3's session and its credentials. Raises StorageError when its chain holds none, or a wrong one."""
    from boto3 import Session
    from botocore.exceptions import BotoCoreError

    try:
        session = Session(region_name=spec.region) if spec.region else Session()
        credentials = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"cannot use {spec.url}: {one_line(str(error))}") from None
    if credentials is None:
        raise StorageError(
            f"cannot use {spec.url}: no credentials; boto3 found none in the environment, in ~/.aws or of a role"
        )
    return session, credentials


def _client(spec: StoreSpec, patient: bool) -> ClientConfig:
    options: ClientConfig = {"allow_http": spec.endpoint is not None and spec.endpoint.startswith("http://")}
    return options if patient else {**options, "timeout": _HASTY_S}


def _open_s3(spec: StoreSpec, patient: bool) -> ObjectStore:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    session, _ = aws(spec)
    options: dict[str, Any] = {}
    if spec.endpoint is not None:
        options = {"endpoint": spec.endpoint, "virtual_hosted_style_request": False}
    return S3Store(
        spec.address.bucket,
        prefix=spec.address.prefix or None,
        region=spec.region or session.region_name or "us-east-1",
        credential_provider=Boto3CredentialProvider(session),
        client_options=_client(spec, patient),
        retry_config=None if patient else _HASTY,
        **options,
    )
