"""Names of datasets, built from settings by OpenLineage's naming rules (its website/docs/spec/naming.md).

Where the rules are silent, an HTTP API is ``https://host`` and its path, and a SQLite database is a namespace with its
tables as names. Names stay the same from run to run: a manifest is a version of the dataset of manifests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from cropline.core.clouds import account_of
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from cropline.config.settings import Settings

Name = tuple[str, str]
"""Namespace and name."""


def dataset(
    name: Name, *, inputs: dict[str, Any] | None = None, outputs: dict[str, Any] | None = None, **facets: Any
) -> dict[str, Any]:
    """A dataset of an event; facets that are None are left out."""
    found: dict[str, Any] = {"namespace": name[0], "name": name[1]}
    found["facets"] = {key: facet for key, facet in facets.items() if facet is not None}
    if inputs is not None:
        found["inputFacets"] = inputs
    if outputs is not None:
        found["outputFacets"] = outputs
    return found


def stored(spec: StoreSpec, key: str) -> Name:
    """Something below the storage root: the bucket's address and its key, or ``file`` and its path."""
    address = spec.address
    if address.local_path is not None:
        return "file", str(address.local_path / key)
    if address.cloud == "memory":
        return "memory", f"/{key}"
    account = account_of(spec) if address.cloud == "az" else None
    bucket = (
        f"abfss://{address.bucket}@{account}.dfs.core.windows.net" if account else f"{address.cloud}://{address.bucket}"
    )
    return bucket, f"{address.prefix}/{key}".lstrip("/")


def api(settings: Settings) -> Name:
    """The image API: its host, and the path of the listing without its query."""
    if settings.api.kind == "python":
        return "python", settings.api.reader
    if settings.api.kind != "rest":
        bucket, path = re.fullmatch(r"([a-z0-9]+://[^/]*)/?(.*)", settings.api.address or "file:///").groups()  # type: ignore[union-attr]
        return ("file", f"/{unquote(path)}") if bucket == "file://" else (bucket, path)
    parts = urlsplit(settings.api.listing)
    host = parts.hostname or "unset"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme or 'http'}://{host}{port}", parts.path


def state_table(settings: Settings, table: str) -> Name:
    """A table of the state database. The URL's user, password and options are left out."""
    parts = urlsplit(settings.state.url.get_secret_value())
    if parts.scheme.startswith("postgresql"):
        return (
            f"postgres://{parts.hostname or 'localhost'}:{parts.port or 5432}",
            f"{parts.path.strip('/')}.public.{table}",
        )
    # SQLAlchemy's form: a relative path follows three slashes, an absolute one four.
    return f"sqlite://{Path(parts.path[1:]).absolute()}", table


def stores(settings: Settings) -> Name | None:
    """The stores table; None when none is set."""
    where = settings.engine.stores
    if where is None:
        return None
    path = Path(where)
    return ("file", str(path.absolute())) if path.is_file() else stored(settings.storage.spec, where)
