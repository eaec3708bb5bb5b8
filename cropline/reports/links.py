"""Links to the outputs of a run: web addresses for the Prefect UI, relative ones for the HTML report.

A web page cannot link to a file:// or s3:// address. CROPLINE_STORAGE__BROWSE_URL is a web address of the storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from cropline.core.store_spec import StoreSpec

_UP = "../../"  # from reports/<day>/ to the storage root, see places.report_key


def web_links(places: Sequence[tuple[str, str]], spec: StoreSpec, browse_url: str) -> dict[str, str]:
    """Return name -> address of each place that a browser can reach."""
    found = {}
    for what, where in places:
        key = key_of(where, spec)
        if key is not None and browse_url:
            found[what] = f"{browse_url.rstrip('/')}/{quote(key)}"
        elif where.startswith(("http://", "https://")):
            found[what] = where
    return found


def relative_links(places: Sequence[tuple[str, str]], spec: StoreSpec) -> dict[str, str]:
    """Return name -> address relative to a report. The links still work when the storage is copied."""
    keys = {what: key_of(where, spec) for what, where in places}
    return {what: _UP + quote(key) for what, key in keys.items() if key is not None}


def key_of(where: str, spec: StoreSpec) -> str | None:
    """Return the storage key of a place, or None when it is not below the storage root."""
    for root in (spec.uri(""), f"{spec.local_path}/"):
        if where.startswith(root):
            return where.removeprefix(root)
    return None
