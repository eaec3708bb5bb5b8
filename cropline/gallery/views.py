"""What the templates show: links, facts of a row, and the commands that show the same in a terminal."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cropline.core.scrub import visible
from cropline.gallery.failed import FIELDS as FAILED_FIELDS

if TYPE_CHECKING:
    from cropline.gallery.queries import Row
    from cropline.gallery.signing import Signer

_SORT_NAMES = {
    "newest": "newest first",
    "blurred": "most blurred first",
    "dark": "darkest first",
    "bright": "brightest first",
    "small": "smallest file first",
    "low_score": "lowest score first",
}


class Pages:
    """Renders the templates. Every value is escaped; an undefined one is an error."""

    def __init__(self, folder: Path, signer: Signer) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(
            thumb=lambda row: f"/thumb/{signer.sign(row)}",
            failed=lambda row: f"/failed/{signer.sign(row, FAILED_FIELDS)}",
            file=lambda row: f"/file/{signer.sign(row)}",
            crop_link=crop_link,
            photo_link=photo_link,
            photo_file=lambda row: "/photo.jpg?" + urlencode(_photo(row)),
            slot_link=slot_link,
            query=lambda values: urlencode(values),
            sort_name=lambda sort: _SORT_NAMES[sort],
        )
        self._templates.filters.update(moment=moment, shown=lambda text: visible(str(text)), shown_lines=_lines)

    def show(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a rendered page."""
        return HTMLResponse(self._templates.get_template(template).render(**values), status)


def _lines(text: str) -> str:
    """Return text of several lines with unprintable characters escaped."""
    return "\n".join(visible(line) for line in text.split("\n"))


def _photo(row: Row) -> dict[str, str]:
    day = {"day": row["captured_date"].isoformat()} if row["captured_date"] else {}
    return {"source": row["source"], "image": row["image_id"]} | day


def photo_link(row: Row, profile: str = "") -> str:
    """Return the address of a photo's page."""
    return "/photo?" + urlencode(_photo(row) | ({"profile": profile} if profile else {}))


def crop_link(row: Row) -> str:
    """Return the address of a crop's page."""
    return "/crop?" + urlencode(_photo(row) | {"profile": row["profile"], "box": str(row["box_index"])})


def slot_link(row: Row, hours: int = 24, suffix: str = "") -> str:
    """Return the address of a slot's strip; ``suffix`` .csv or .png: the same as a file."""
    values = _photo(row) | {"profile": row["profile"], "box": str(row["box_index"]), "hours": str(hours)}
    return f"/slot{suffix}?{urlencode(values)}"


def moment(value: datetime | None) -> str:
    """Return a time for people."""
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else "unknown"


def facts(row: Row) -> list[tuple[str, str]]:
    """Return (name, text) from the crop back to the API."""
    size = f"{row['width']} x {row['height']} px {row['format']}, {row['bytes']:,} bytes" if row["key"] else "none"
    box = f"x {row['left']} to {row['right']}, y {row['top']} to {row['bottom']}"
    found = [
        ("status", row["status"] + (f": {row['reason']}: {row['detail']}" if row["reason"] else "")),
        ("crop", row["key"] or "none"),
        ("size", size),
        ("sha256", row["sha256"] or ""),
        ("pack", f"{row['shard']}, from byte {row['offset']:,}" if row["shard"] else ""),
        ("box", f"{row['box_id']}, number {row['box_index']}, {row['label'] or 'no label'}"),
        ("place", f"{box} of {row['image_width']} x {row['image_height']} px" if row["left"] is not None else ""),
        ("score", "" if row["score"] is None else f"{row['score']:.3f}"),
        ("sharpness", "" if row["sharpness"] is None else f"{row['sharpness']:.1f}"),
        ("brightness", "" if row["luminance"] is None else f"{row['luminance']:.1f} of 255"),
        ("image", f"{row['image_id']} of {row['source']}, version {row['version']}"),
        ("captured", f"{moment(row['captured_at'])} by {row['camera_id']} in {row['store_name'] or row['store_id']}"),
        ("profile", f"{row['profile']} {row['profile_hash'][:12]}"),
        ("manifest", f"{row['manifest']}, row {row['manifest_row']}"),
        ("batch", f"{row['batch_id']}, attempt {row['attempt']}, committed {moment(row['committed_at'])}"),
        ("flow run", row["flow_run"] or ""),
    ]
    if row["recrop_reason"]:
        text = f"{row['recrop_reason']} at {moment(row['recrop_failed_at'])}: {row['recrop_detail']}"
        found.insert(1, ("not cut again", text))
    return [(name, text) for name, text in found if text]


def commands(row: Row) -> list[str]:
    """Return shell lines that show the same."""
    image, key = shlex.quote(visible(row["image_id"])), shlex.quote(visible(row["key"] or row["image_id"]))
    lines = [f"cropline trace {key}", f"cropline show {image}"]
    if row["camera_id"] and row["box_id"] and row["captured_at"]:
        camera, box = shlex.quote(visible(row["camera_id"])), shlex.quote(visible(row["box_id"]))
        since = row["captured_at"].date().isoformat()
        lines.append(
            f"cropline timeline --camera {camera} --box {box} --image {image} --profile {row['profile']} --since {since} "
            "--out strip"
        )
    return lines
