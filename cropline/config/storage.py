"""Settings of the object store."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.api import is_plain_http
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.pictures import PictureLimits as PictureLimits
from cropline.core.store_address import FORMS, check_address
from cropline.core.store_spec import StoreSpec


class StorageSettings(Group):
    """Where manifests, crops, the catalogue and reports are stored."""

    url: str = Field("", description=f"{FORMS}; empty is ./cropline-output")
    endpoint: str | None = Field(None, description="a server other than the cloud's own, http(s)://host[:port][/path]")
    region: str | None = Field(None, description="S3: the bucket's region; empty uses the region of boto3's settings")
    account: str | None = Field(
        None,
        pattern=r"^[a-z0-9]{3,24}$",
        description="az: the storage account, when neither the url nor AZURE_STORAGE_ACCOUNT_NAME names it",
    )
    browse_url: str = Field(
        "", description="http(s) address at which a browser finds the objects of url; summaries then link to it"
    )

    gallery_url: str = Field("", description="http(s) address of cropline gallery; reports then link to it")

    @field_validator("browse_url", "gallery_url", "endpoint")
    @classmethod
    def _is_web(cls, value: str | None) -> str | None:
        if value and not is_plain_http(value):
            raise ValueError("must be http(s)://host[:port][/path], without user, query or fragment")
        return value

    @field_validator("url")
    @classmethod
    def _is_store(cls, value: str) -> str:
        if not value:
            return (Path.cwd() / "cropline-output").as_uri()
        check_address(value)
        return value.rstrip("/") if not value.startswith("memory:") else value

    @property
    def spec(self) -> StoreSpec:
        return StoreSpec(self.url, self.endpoint, self.region, self.account)
