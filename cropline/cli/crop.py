"""``cropline crop``: cut the boxes of one photo without state, catalogue or Prefect.

A local file is served to the crop processes over loopback, because they accept only URLs. So the same limits
apply as to any photo.
"""

from __future__ import annotations

import json
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from cropline.cli.boxes_file import read_boxes
from cropline.cli.photo_view import cut, image_row, view_row, with_boxes
from cropline.config.profile import Profile
from cropline.config.settings import FetchSettings, Settings, load_settings
from cropline.core.errors import SettingsError
from cropline.core.failures import FAILURES, PhotoFailure
from cropline.core.screen import Screen
from cropline.core.scrub import visible
from cropline.core.store_spec import StoreSpec
from cropline.reports.contact_sheet import Tile

_PICTURE, _LIST = "boxes.jpg", "crops.json"
_SHOWN = (
    *("profile", "box_index", "box_id", "label", "status", "reason", "detail", "file", "width", "height", "bytes"),
    *("sha256", "left", "top", "right", "bottom", "box_left", "box_top", "luminance", "sharpness", "flags"),
)
_ROWS_SHOWN = 60
_OUR_NAME = re.compile(r"[a-z0-9_-]{1,40}/[0-9]{4}[A-Za-z0-9_-]*[.](?:jpg|png|webp|avif)")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class CropOptions:
    """The options of the command."""

    photo: str
    boxes: Path
    out: Path
    profiles: tuple[str, ...]
    changes: dict[str, Any]  # fields of settings.Profile
    coordinates: str | None
    orientation: str | None
    allow_loopback: bool
    source: str | None = None


def run_crop(options: CropOptions) -> bool:
    """Write crops, picture and list into ``out``, and print one line per box. Return whether no box failed.

    Raises SettingsError for wrong options and files. A bad photo or box gets a reason code in its row.
    """
    settings = load_settings(options.source)
    profiles = _profiles(settings, options)
    units = options.coordinates or settings.api.coordinates
    boxes = read_boxes(options.boxes, settings.api.model_copy(update={"coordinates": units}))
    _make_folder(options.out)
    screen = Screen()
    try:
        with screen.status("fetching"):
            data = _bytes(options, settings)
    except PhotoFailure as failure:
        _show_photo_failure(screen, failure.code, failure.detail)
        return False
    with _scratch(options.out) as scratch:
        with screen.status(f"cutting {len(boxes):,} boxes"):
            rows = _cut(data, boxes, profiles, options, settings, StoreSpec(scratch.absolute().as_uri()))
        view, crops = rows[-1], rows[:-1]
        _keep(crops, scratch, options.out)
        if view["status"] == "written":
            (options.out / _PICTURE).write_bytes(_picture(scratch / view["key"], view, crops, options.out))
    listed = [{name: row.get(name) for name in _SHOWN} for row in crops]
    (options.out / _LIST).write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _show(screen, crops, options)
    return all(row["status"] != "failed" for row in crops)


def _make_folder(out: Path) -> None:
    """Create the folder, and delete the files that an earlier run of this command left in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (*_listed(out), _PICTURE, _LIST):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written to ({error.strerror})") from None


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Yield a temporary folder on the same disk."""
    try:
        folder = tempfile.TemporaryDirectory(dir=out, prefix=".cropline-")
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written to ({error.strerror})") from None
    with folder as name:
        yield Path(name)


def _listed(out: Path) -> list[str]:
    """Return the files in the list of an earlier run. Names that this command does not write are ignored."""
    try:
        rows = json.loads((out / _LIST).read_text(encoding="utf-8"))
        return [row["file"] for row in rows if row["file"] and _OUR_NAME.fullmatch(row["file"])]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _profiles(settings: Settings, options: CropOptions) -> dict[str, Profile]:
    unknown = [name for name in options.profiles if name not in settings.profiles]
    if unknown:
        raise SettingsError(
            f"--profile {unknown[0]}: is not in CROPLINE_PROFILES, which has {', '.join(settings.profiles)}"
        )
    if options.profiles:
        chosen = {name: settings.profiles[name] for name in options.profiles}
    else:
        chosen = {"custom": Profile()} if options.changes else dict(settings.profiles)
    try:
        return {name: Profile(**profile.model_dump() | options.changes) for name, profile in chosen.items()}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}: " if first["loc"] else ""
        raise SettingsError(option + first["msg"].removeprefix("Value error, ")) from None


def _bytes(options: CropOptions, settings: Settings) -> bytes:
    if "://" not in options.photo:
        return _file(Path(options.photo), settings.fetch.max_bytes)
    from fugue_jobs.fetching.fetch import Fetcher

    # The option decides about loopback here, not the settings.
    with Fetcher(replace(settings.fetch.options, allow_loopback=options.allow_loopback)) as fetcher:
        return fetcher.fetch(options.photo).data


def _file(path: Path, most: int) -> bytes:
    """Return the bytes of a file.

    Raises PhotoFailure when it exceeds the limit for photos: a device file has no end.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > most:
        raise PhotoFailure("too_large", f"more than {most} bytes")
    return data


def _cut(
    data: bytes,
    boxes: list[dict[str, Any]],
    profiles: Mapping[str, Profile],
    options: CropOptions,
    settings: Settings,
    store: StoreSpec,
) -> list[dict[str, Any]]:
    """Return rows of schemas.CROPS by box and profile; the last is the photo itself."""
    with _served(data) as url:
        fetch = FetchSettings(allow_loopback=True, max_bytes=settings.fetch.max_bytes)
        geometry = {
            # read_boxes has already converted percent to 0..1.
            "coordinates": "pixels" if (options.coordinates or settings.api.coordinates) == "pixels" else "normalised",
            "orientation": options.orientation or settings.api.orientation,
        }
        images = [image_row("crops", 0, url, boxes, profiles) | geometry, view_row(1, url)]
        return cut(images, store, fetch, settings.pictures)


@contextmanager
def _served(data: bytes) -> Iterator[str]:
    """Yield a loopback URL of these bytes. Its path is random."""
    path = f"/{secrets.token_hex(16)}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == path
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(data) if known else 0))
            self.end_headers()
            if known:
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """No log lines on the screen."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{path}"
        finally:
            server.shutdown()
            thread.join()


def _keep(crops: list[dict[str, Any]], scratch: Path, out: Path) -> None:
    """Rename the crops to PROFILE/NUMBER-BOX.jpg."""
    for row in crops:
        if row["status"] != "written":
            continue
        found = scratch / row["key"]
        # The number makes the name unique. Only safe characters of the id are kept.
        box = _UNSAFE.sub("-", row["box_id"] or "")[:40].strip("-")
        row["file"] = f"{row['profile']}/{row['box_index']:04d}{box and f'-{box}'}{found.suffix}"
        try:
            (out / row["profile"]).mkdir(exist_ok=True)
            found.replace(out / row["file"])
        except OSError as error:
            raise SettingsError(f"--out {out}: {row['file']} cannot be written ({error.strerror})") from None


def _picture(file: Path, view: Mapping[str, Any], crops: list[dict[str, Any]], out: Path) -> bytes:
    first = {row["box_index"]: row for row in reversed(crops) if row["left"] is not None}
    tiles = [
        Tile((out / row["file"]).read_bytes(), _name(row), f"{row['width']} x {row['height']} px {row['profile']}")
        for row in crops[:_ROWS_SHOWN]
        if "file" in row
    ]
    return with_boxes(file, view, [(row, _name(row), "file" in row) for row in first.values()], tiles)


def _name(row: Mapping[str, Any]) -> str:
    return " ".join(str(part) for part in (row["box_id"] or row["box_index"], row["label"]) if part is not None)


def _show(screen: Screen, crops: list[dict[str, Any]], options: CropOptions) -> None:
    if crops[0]["image_width"] is None:
        _show_photo_failure(screen, crops[0]["reason"], crops[0]["detail"])
    else:
        screen.print(_table(crops[:_ROWS_SHOWN]))
        if len(crops) > _ROWS_SHOWN:
            screen.print(f"... and {len(crops) - _ROWS_SHOWN:,} more in {_LIST}")
        for code in sorted({row["reason"] for row in crops if row["reason"]}):
            screen.print(f"  {code}: {FAILURES[code].meaning}; {FAILURES[code].remedy}", soft_wrap=True)
        if options.coordinates is None and any(_looks_like_pixels(row) for row in crops):
            screen.print("  the boxes look like pixels; if they are, give --coordinates pixels", soft_wrap=True)
    counts = ", ".join(
        f"{sum(row['status'] == status for row in crops):,} {status}" for status in ("written", "skipped", "failed")
    )
    screen.print(f"\n{len(crops):,} crops: {counts}")
    for name, what in (("", "crops"), (_PICTURE, "the boxes"), (_LIST, "the list")):
        if (options.out / name).exists():
            screen.print(f"  {what:<10} {options.out / name}", soft_wrap=True)


def _looks_like_pixels(row: Mapping[str, Any]) -> bool:
    return row["reason"] == "box_outside" and min(row[edge] or 0 for edge in ("xmax", "ymax")) > 2


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for name in ("box", "profile", "", "size px", "bytes", "file, or reason"):
        table.add_column(name, justify="right" if name in ("size px", "bytes") else "left", overflow="fold")
    for row in rows:
        written = row["status"] == "written"
        said = row["file"] if written else f"{row['reason']}: {row['detail']}"
        if written and row["flags"]:
            said += f" ({row['flags']})"
        size = (f"{row['width']} x {row['height']}", f"{row['bytes']:,}") if written else ("", "")
        table.add_row(visible(_name(row)), row["profile"], row["status"], *size, visible(said))
    return table


def _show_photo_failure(screen: Screen, code: str, detail: str) -> None:
    screen.print(f"the photo cannot be cut: {code}: {detail}", soft_wrap=True)
    screen.print(f"  {FAILURES[code].meaning}; {FAILURES[code].remedy}", soft_wrap=True)
    if code == "forbidden_address" and "loopback" in detail:
        screen.print("  --allow-loopback allows photos of this machine", soft_wrap=True)
