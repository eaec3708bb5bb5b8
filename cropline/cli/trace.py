"""cropline trace: from a crop back to where it came from, step by step, from the catalogue alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from cropline import manifest
from cropline.catalogue import Catalogue
from cropline.errors import CatalogueError, ManifestError
from cropline.scrub import scrub
from cropline.settings import Settings, load_settings
from cropline.state import State


def show_trace(crop: str) -> None:
    """Print crop -> box -> image -> manifest -> batch -> flow run -> profile. Raises CatalogueError for an unknown crop."""
    settings = load_settings()
    row = Catalogue(settings.storage.spec).find(crop)
    if row is None:
        raise CatalogueError(
            f"no crop {crop} in {settings.storage.spec.uri('catalogue')}; give its object key or address as the "
            "catalogue has it"
        )
    console = Console(highlight=False)
    for name, text in chain(row, _url(settings, row), _profile(settings, row)):
        console.print(f"[bold]{name:<10}[/bold] {escape(text)}", soft_wrap=True)


def chain(row: Mapping[str, Any], url: str | None, profile: str) -> list[tuple[str, str]]:
    """(what, facts), from the crop back to its origin; an empty name continues the line before it."""
    return [
        ("crop", row["key"]),
        ("", f"{row['width']} x {row['height']} px {row['format']}, {row['bytes']:,} bytes, sha256 {row['sha256']}"),
        *([("", f"in {row['shard']}, from byte {row['offset']:,}")] if row["shard"] else []),
        ("box", f"{row['box_id']}, number {row['box_index']}, {row['label'] or 'no label'}"),
        (
            "",
            f"x {row['left']}..{row['right']}, y {row['top']}..{row['bottom']} of {row['image_width']} x "
            f"{row['image_height']} px",
        ),
        ("image", f"{row['image_id']} of {row['source']}, version {row['version']}"),
        ("", f"captured {_moment(row['captured_at'])} by {row['camera_id']} in {row['store_name'] or row['store_id']}"),
        ("", f"sha256 {row['image_sha256']}" + (f", {url}" if url else "")),
        ("manifest", f"{row['manifest']}, row {row['manifest_row']}"),
        ("batch", f"{row['batch_id']}, attempt {row['attempt']}, committed {_moment(row['committed_at'])}"),
        ("flow run", row["flow_run"]),
        ("profile", f"{row['profile']}: {profile}"),
    ]


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "at an unknown time"


def _url(settings: Settings, row: Mapping[str, Any]) -> str | None:
    """Only the manifest knows the address; it may have been aged out, and the trace stands without it."""
    try:
        rows = manifest.read(settings.storage.spec, row["manifest"], ["row", "url"])
    except ManifestError:
        return None
    return scrub(rows["url"].to_pylist()[rows["row"].to_pylist().index(row["manifest_row"])])


def _profile(settings: Settings, row: Mapping[str, Any]) -> str:
    """The recipe as it was registered, in a line."""
    with State.open(settings.state) as state:
        recipe = state.recipe(row["profile_hash"])
    if recipe is None:
        return f"recipe {row['profile_hash'][:12]}, not known to this state table"
    return " ".join(f"{name}={value}" for name, value in json.loads(recipe).items() if value not in (None, 0, False))
