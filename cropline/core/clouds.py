"""Build obstore's store and delta-rs' options from a StoreSpec, with the same server and credentials for both."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cropline.core.errors import StorageError
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from boto3 import Session
    from botocore.credentials import Credentials
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from cropline.core.store_spec import StoreSpec


def open_cloud(spec: StoreSpec, within_s: float | None) -> ObjectStore:
    """Return the store of a spec; see storage.open_store. Raise StorageError, OSError or ValueError when it fails."""
    from obstore.store import LocalStore, MemoryStore

    address = spec.address
    if address.cloud == "memory":
        return MemoryStore()
    if address.local_path is not None:
        address.local_path.mkdir(parents=True, exist_ok=True)
        return LocalStore(prefix=address.local_path)
    return {"s3": _open_s3, "gs": _open_gcs, "az": _open_azure}[address.cloud](spec, within_s)


def delta_address(spec: StoreSpec) -> str:
    """Return the table's address as delta-rs expects it.

    The account of an abfss:// address is an option, as for obstore.
    """
    address = spec.address
    if address.local_path is not None:
        return str(address.local_path)
    return f"az://{address.bucket}/{address.prefix}" if address.cloud == "az" else spec.url


def delta_options(spec: StoreSpec) -> dict[str, str] | None:
    """Return delta-rs' storage options. It reads all others from the environment, as obstore does."""
    options: dict[str, str | None] = {}
    if spec.address.cloud == "s3":
        options = _delta_s3(spec)
    elif spec.address.cloud == "gs":
        options = {"google_base_url": spec.endpoint}
    elif spec.address.cloud == "az":
        options = {"azure_storage_account_name": account_of(spec), "azure_storage_endpoint": spec.endpoint}
    if spec.endpoint is not None:
        options["allow_http"] = str(_is_plain(spec)).lower()
    return {name: value for name, value in options.items() if value is not None} or None


def account_of(spec: StoreSpec) -> str | None:
    """Return Azure's storage account from the address or the settings; None means AZURE_STORAGE_ACCOUNT_NAME."""
    return spec.address.account or spec.account


def _delta_s3(spec: StoreSpec) -> dict[str, str | None]:
    """Read the credentials from boto3's chain at each call: they may have expired."""
    session, credentials = aws(spec)
    frozen = credentials.get_frozen_credentials()
    return {
        "aws_access_key_id": frozen.access_key,
        "aws_secret_access_key": frozen.secret_key,
        "aws_session_token": frozen.token,
        "aws_region": session.region_name or "us-east-1",
        # When two writers commit the same version, the store lets only one succeed.
        "aws_conditional_put": "etag",
        "aws_endpoint": spec.endpoint,
        "aws_virtual_hosted_style_request": "false" if spec.endpoint is not None else None,
    }


def aws(spec: StoreSpec) -> tuple[Session, Credentials]:
    """Return boto3's session and its credentials. Raise StorageError when its chain has none or invalid ones."""
    from boto3 import Session
    from botocore.exceptions import BotoCoreError

    try:
        session = Session(region_name=spec.region) if spec.region else Session()
        credentials = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"cannot use {spec.url}: {one_line(str(error))}") from None
    if credentials is None:
        raise StorageError(
            f"cannot use {spec.url}: no credentials; boto3 found none in the environment, in ~/.aws or from a role"
        )
    return session, credentials


def _is_plain(spec: StoreSpec) -> bool:
    return spec.endpoint is not None and spec.endpoint.startswith("http://")


def _client(spec: StoreSpec, within_s: float | None) -> ClientConfig:
    options: ClientConfig = {"allow_http": _is_plain(spec)}
    return options if within_s is None else {**options, "timeout": timedelta(seconds=within_s)}


def _retry(within_s: float | None) -> RetryConfig | None:
    return None if within_s is None else {"max_retries": 1, "retry_timeout": timedelta(seconds=within_s)}


def _open_s3(spec: StoreSpec, within_s: float | None) -> ObjectStore:
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
        client_options=_client(spec, within_s),
        retry_config=_retry(within_s),
        **options,
    )


def _open_gcs(spec: StoreSpec, within_s: float | None) -> ObjectStore:
    """Use Google's chain: GOOGLE_SERVICE_ACCOUNT, GOOGLE_APPLICATION_CREDENTIALS, gcloud's own, the machine's."""
    from obstore.store import GCSStore

    options: dict[str, Any] = {} if spec.endpoint is None else {"base_url": spec.endpoint}
    return GCSStore(
        spec.address.bucket,
        prefix=spec.address.prefix or None,
        client_options=_client(spec, within_s),
        retry_config=_retry(within_s),
        **options,
    )


def _open_azure(spec: StoreSpec, within_s: float | None) -> ObjectStore:
    """Use Azure's chain: AZURE_STORAGE_ACCOUNT_KEY, _SAS_KEY, a client secret, workload or managed identity."""
    from obstore.store import AzureStore

    given = {"account_name": account_of(spec), "endpoint": spec.endpoint}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return AzureStore(
        spec.address.bucket,
        prefix=spec.address.prefix or None,
        client_options=_client(spec, within_s),
        retry_config=_retry(within_s),
        **options,
    )
