"""``cropline trace``: from a crop back to its origin, or from an image to its crops, by the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cropline.catalogue import Catalogue
from cropline.config.settings import Settings, load_installation
from cropline.core.columns import CATALOGUE_COLUMNS
from cropline.core.errors import CatalogueError, ManifestError
from cropline.core.screen import Screen, plain
from cropline.core.scrub import one_line, scrub, visible
from cropline.intake import manifest
from cropline.pipeline.photo_rows import rows_of_photo
from cropline.state import State

if TYPE_CHECKING:
    from cropline.catalogue.history import PastRows


def show_trace(what: str, source: str | None = None) -> None:
    """Print crop -> box -> image -> manifest -> batch -> flow run -> profile, or image -> versions -> crops.

    Raises CatalogueError when ``what`` is neither, or when the photo was erased.
    """
    settings = load_installation()
    names = settings.source_names if source is None else (settings.of(source).api.source,)
    catalogue, screen = Catalogue(settings.storage.spec), Screen()
    row = catalogue.find(what)
    if row is None:
        _show_image(settings, names, what, screen)
        return
    refuse_forgotten(settings, row["source"], row["image_id"])
    _show_deleted(settings, row["source"], row["image_id"], screen)
    for name, text in chain(row, _url(settings, row), _profile(settings, row)):
        screen.print(f"[bold]{name:<10}[/bold] {plain(text)}", markup=True, soft_wrap=True)


def _show_image(settings: Settings, names: Sequence[str], image_id: str, screen: Screen) -> None:
    """Print the versions of an image, under its source's name when there are several."""
    catalogue, found = Catalogue(settings.storage.spec), False
    for name in names:
        refuse_forgotten(settings, name, image_id)
        past = catalogue.image_history(name, image_id, current=rows_of_photo(catalogue, settings.state, name, image_id))
        _show_deleted(settings, name, image_id, screen)
        if past and len(names) > 1:
            screen.print(f"[bold]{name}[/bold]", markup=True)
        for line in versions(past):
            screen.print(line, markup=True, soft_wrap=True)
        found = found or bool(past)
    if not found:
        raise CatalogueError(
            f"no crop and no image {visible(image_id)} in {settings.storage.spec.uri('catalogue')}; give a crop's object key or "
            f"address as the catalogue has it, or the id of an image of {', '.join(names)}"
        )


def _show_deleted(settings: Settings, source: str, image_id: str, screen: Screen) -> None:
    with State.open(settings.state) as state:
        moment = state.deleted_at(source, image_id)
    if moment is not None:
        screen.print(f"deleted by {source}, as a poll read at {_moment(moment)}; its crops are kept", soft_wrap=True)


def refuse_forgotten(settings: Settings, source: str, image_id: str) -> None:
    """Raise CatalogueError for an erased photo. Earlier versions of the catalogue hold it until maintenance."""
    with State.open(settings.state) as state:
        if state.forgotten(source, [image_id]):
            raise CatalogueError(f"the image {visible(image_id)} of {source} was erased, with everything made from it")


def chain(row: Mapping[str, Any], url: str | None, profile: str) -> list[tuple[str, str]]:
    """Return (name, facts) from the crop back to its origin. An empty name continues the line before."""
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
        *_own(row),
        ("status", _status(row["superseded_in"])),
        *([("", _stayed(row))] if row["recrop_reason"] else []),
    ]


def _own(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the columns of users: values of steps and of scripts."""
    names = [
        name for name, value in row.items() if name not in (*CATALOGUE_COLUMNS, "superseded_in") and value is not None
    ]
    for position, name in enumerate(names):
        value = row[name]
        shown = f"{len(value):,} bytes" if isinstance(value, bytes) else one_line(str(value), 100)
        yield ("" if position else "columns"), f"{name} = {shown}"


def _stayed(row: Mapping[str, Any]) -> str:
    """Return why the box has no newer crop."""
    return f"its box could not be cut again at {_moment(row['recrop_failed_at'])}: {row['recrop_reason']}: {row['recrop_detail']}"


def _status(superseded_in: int | None) -> str:
    if superseded_in is None:
        return "current"
    return f"superseded in version {superseded_in} of the catalogue: the image, its boxes or the recipe changed"


def versions(past: Sequence[PastRows]) -> Iterator[str]:
    """Yield lines of rich markup: the versions of an image, newest first, each with its batch and its crops."""
    for held in past:
        rows = held.rows.sort_by([("profile", "ascending"), ("box_index", "ascending")]).to_pylist()
        for _, group in groupby(rows, key=itemgetter("profile", "fingerprint")):
            yield from _version(list(group), held.superseded_in)


def _version(crops: list[dict[str, Any]], superseded_in: int | None) -> Iterator[str]:
    first, written = crops[0], sum(row["status"] == "written" for row in crops)
    yield (
        f"[bold]version {plain(first['version'])}[/bold] by profile {first['profile']}: {written} of {len(crops)} boxes "
        f"written, {_status(superseded_in)}"
    )
    yield (
        f"  batch {first['batch_id']}, committed {_moment(first['committed_at'])} by flow run {first['flow_run']}, "
        f"{plain(first['manifest'])} row {first['manifest_row']}"
    )
    for row in crops:
        became = row["key"] or f"{row['status']}: {row['reason']}"
        if row["recrop_reason"]:
            became += f", not cut again: {row['recrop_reason']}"
        yield f"  box {row['box_index']:>3}  {plain(became)}"


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "at an unknown time"


def _url(settings: Settings, row: Mapping[str, Any]) -> str | None:
    """Return the photo's URL from the manifest; None when retention has removed the manifest."""
    try:
        rows = manifest.read(settings.storage.spec, row["manifest"], ["row", "url"])
    except ManifestError:
        return None
    return scrub(rows["url"].to_pylist()[rows["row"].to_pylist().index(row["manifest_row"])])


def _profile(settings: Settings, row: Mapping[str, Any]) -> str:
    """Return the registered recipe as one line."""
    with State.open(settings.state) as state:
        recipe = state.recipe(row["profile_hash"])
    if recipe is None:
        return f"recipe {row['profile_hash'][:12]}, not known to this state table"
    return " ".join(f"{name}={value}" for name, value in json.loads(recipe).items() if value not in (None, 0, False))
