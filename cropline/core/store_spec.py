"""A store's address and connection options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cropline.core.store_address import StoreAddress, read_address


@dataclass(frozen=True)
class StoreSpec:
    """The place for outputs. Picklable; equal specs share one store in a process."""

    url: str
    endpoint: str | None = None  # a server other than the cloud's own, http://host:port
    region: str | None = None
    account: str | None = None  # Azure: the storage account; None is AZURE_STORAGE_ACCOUNT_NAME

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def local_path(self) -> Path | None:
        """The folder of a file:// URL, else None."""
        return self.address.local_path if self.scheme == "file" else None

    @property
    def address(self) -> StoreAddress:
        """The parsed URL. Raise ValueError when its form is unknown."""
        return read_address(self.url)

    @property
    def identity(self) -> str:
        """The place as one unique text. A state database belongs to it."""
        return f"{self.url} at {self.endpoint}" if self.endpoint else self.url

    def uri(self, key: str) -> str:
        """Return the full address of an object, for people and for lineage."""
        return f"{self.url.rstrip('/')}/{key}"
