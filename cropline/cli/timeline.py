"""``cropline timeline``: one slot of a shelf over time, as a picture and a table."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.config.settings import load_installation, load_settings
from cropline.core.errors import CatalogueError, OptionError, SettingsError
from cropline.core.request import in_utc
from cropline.core.screen import Screen
from cropline.core.scrub import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 2_000


@dataclass(frozen=True)
class Slot:
    """The box where a slot begins: its id, in a photo of a camera. Empty ``image`` and ``profile``: the newest photo."""

    source: str
    camera: str
    box: str
    image: str = ""
    profile: str = ""


def asked_slot(
    source: str, camera: str, box: str, image: str, profile: str, since: str, until: str | None
) -> tuple[Slot, datetime, datetime]:
    """Return the slot and its time from the options. Raises RequestError for a time that is none."""
    from cropline.cli.backfill import asked_photos

    photos = asked_photos(since=since, until=until, stores=None, cameras=None)
    begin = in_utc(photos.since) if photos.since else datetime.now(UTC)
    end = in_utc(photos.until) if photos.until else datetime.now(UTC)
    return Slot(source or load_settings().api.source, camera, box, image, profile), begin, end


def run_timeline(slot: Slot, since: datetime, until: datetime, out: Path) -> None:
    """Write strip.png and timeline.csv. Raises CatalogueError when the camera has no such box in this time."""
    from cropline.gallery.queries import Queries
    from cropline.gallery.slots import csv_rows, most_changed, timeline
    from cropline.gallery.strip import draw_strip, with_changes
    from cropline.gallery.thumbnails import Thumbnails

    settings = load_installation()
    rows = Queries(settings.storage.spec).camera(slot.source, slot.camera, since, until)
    moments = timeline(rows, _start(rows, slot, since, until))
    if len(moments) > _MOST:
        raise OptionError(f"--since: {len(moments):,} photos are more than {_MOST:,}; choose a shorter time")
    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        thumbnails = Thumbnails(settings.storage.spec, Path(folder), 1_000_000_000)
        moments = with_changes(moments, thumbnails.get)
        picture = draw_strip(moments, thumbnails.get)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "strip.png").write_bytes(picture)
        with (out / "timeline.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(csv_rows(moments))
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written to ({error.strerror})") from None
    crops = sum(not moment.why for moment in moments)
    screen = Screen()
    screen.print(f"{crops} crops in {len(moments)} photos: {out / 'strip.png'}, {out / 'timeline.csv'}", soft_wrap=True)
    for at in sorted(most_changed(moments)):
        changed = moments[at]
        screen.print(f"  {changed.captured_at:%Y-%m-%d %H:%M} UTC  change {changed.change:.0%}  {changed.image_id}")


def _start(rows: Sequence[dict[str, Any]], slot: Slot, since: datetime, until: datetime) -> dict[str, Any]:
    """Return the row where the slot begins: the newest one with a crop, else the newest."""
    found = [
        row
        for row in rows
        if row["box_id"] == slot.box
        and (not slot.image or row["image_id"] == slot.image)
        and (not slot.profile or row["profile"] == slot.profile)
        and row["left"] is not None
    ]
    if not found:
        where = f" of photo {visible(slot.image)}" if slot.image else ""
        raise CatalogueError(
            f"camera {visible(slot.camera)} of {visible(slot.source)} has no box {visible(slot.box)}{where} between "
            f"{since:%Y-%m-%d %H:%M} and {until:%Y-%m-%d %H:%M} UTC; the page of a photo in cropline gallery shows its boxes"
        )
    return max(found, key=lambda row: (row["status"] == "written", row["captured_at"], row["profile"]))
