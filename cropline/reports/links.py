"""Links to what a run left: for a browser that shows the Prefect UI, and inside the output for the HTML report.

Browsers follow no file:// or s3:// address from a web page. CROPLINE_STORAGE__BROWSE_URL says where they find the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from cropline.core.store_spec import StoreSpec

_UP = "../../"  # from reports/<day>/ to the storage root, see places.report_key


def web_links(places: Sequence[tuple[str, str]], spec: StoreSpec, browse_url: str) -> dict[str, str]:
    """Name -> address, for each place that a browser can reach."""
    found = {}
    for what, where in places:
        key = key_of(where, spec)
        if key is not None and browse_url:
            found[what] = f"{browse_url.rstrip('/')}/{quote(key)}"
        elif where.startswith(("http://", "https://")):
            found[what] = where
    return found


def relative_links(places: Sequence[tuple[str, str]], spec: StoreSpec) -> dict[str, str]:
    """Name -> address as seen from a report. It works wherever the output is copied to."""
    keys = {what: key_of(where, spec) for what, where in places}
    return {what: _UP + quote(key) for what, key in keys.items() if key is not None}


def key_of(where: str, spec: StoreSpec) -> str | None:
    """The storage key of a place; None when it is not below the storage root."""
    for root in (spec.uri(""), f"{spec.local_path}/"):
        if where.startswith(root):
            return where.removeprefix(root)
    return None
