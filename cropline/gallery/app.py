"""The web application: one function per page. Text from outside is escaped by the templates."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

from cropline.catalogue import Catalogue
from cropline.catalogue.crop_files import read_crop
from cropline.config.settings import Settings
from cropline.core.errors import CroplineError, OptionError, StorageError
from cropline.core.scrub import visible
from cropline.gallery.access import guard
from cropline.gallery.failed import FIELDS as FAILED_FIELDS
from cropline.gallery.failed import FailedPictures
from cropline.gallery.filters import SORTS, parse, parse_place
from cropline.gallery.queries import Queries, Row
from cropline.gallery.runs import quarantined, runs_of, versions_of
from cropline.gallery.signing import Signer
from cropline.gallery.slots import Moment, csv_rows, most_changed, timeline
from cropline.gallery.strip import draw_strip, with_changes
from cropline.gallery.thumbnails import NoPicture, Thumbnails
from cropline.gallery.views import Pages, commands, facts
from cropline.pipeline.known_photos import moved_items
from cropline.state import State

PER_PAGE = 60
_MOST_MOMENTS = 400
_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif"}
_HERE = Path(__file__).parent

PhotoView = Callable[[Row], bytes]
"""Takes a row of a photo, fetches the photo, and returns it as a JPEG. Raises CroplineError when it cannot be had."""


class NotFound(CroplineError):
    """The address names nothing that is there."""

    code = "not_found"


def build(
    settings: Settings, state: State, thumbnails: Thumbnails, *, token: str | None, photo_view: PhotoView
) -> FastAPI:
    """Return the application over one installation. ``token`` None: only for requests to a loopback name."""
    app = FastAPI(title="cropline gallery", openapi_url=None)
    guard(app, token)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    gallery = _Gallery(settings, state, thumbnails, photo_view)
    for path, page in (
        ("/", gallery.crops),
        ("/crop", gallery.crop),
        ("/photo", gallery.photo),
        ("/slot", gallery.slot),
        ("/slot.csv", gallery.slot_csv),
        ("/slot.png", gallery.slot_png),
        ("/runs", gallery.runs),
        ("/quarantine", gallery.quarantine),
        ("/thumb/{reference}", gallery.thumb),
        ("/file/{reference}", gallery.file),
        ("/failed/{reference}", gallery.failed),
        ("/photo.jpg", gallery.photo_file),
    ):
        app.add_api_route(path, page, methods=["GET"], response_class=HTMLResponse)

    @app.exception_handler(CroplineError)
    async def failed(_: Request, error: Exception) -> Response:
        status = {"not_found": 404, "option": 400}.get(getattr(error, "code", ""), 503)
        return gallery.pages.show("error.html", status=status, message=str(error))

    return app


class _Gallery:
    """The pages. FastAPI runs each in a thread of its pool."""

    def __init__(self, settings: Settings, state: State, thumbnails: Thumbnails, photo_view: PhotoView) -> None:
        self._state, self._thumbnails, self._photo_view = state, thumbnails, photo_view
        self._store = settings.storage.spec
        self._queries = Queries(self._store)
        self._failed = FailedPictures(thumbnails, photo_view)
        self._signer = Signer()
        self.pages = Pages(_HERE / "templates", self._signer)

    def crops(self, request: Request) -> Response:
        """The grid of crops with its filter."""
        chosen = parse(request.query_params)
        days = self._queries.days()
        page = self._queries.page(chosen, parse_place(request.query_params.get("after", "")), PER_PAGE)
        shown = chosen.days(days)
        return self.pages.show(
            "crops.html",
            chosen=chosen,
            sorts=SORTS,
            choices=self._queries.choices().values,
            page=page,
            one_day=shown[0] if shown and chosen.sort != "newest" and not (chosen.since or chosen.until) else None,
            newest_day=days[0] if days else None,
            one_day_back=timedelta(days=1),
            first=not request.query_params.get("after"),
        )

    def crop(self, request: Request) -> Response:
        """One crop: the file, the photo, the trace, the commands that show the same."""
        row, rows = self._row(request.query_params)
        return self.pages.show(
            "crop.html",
            row=row,
            rows=[each for each in rows if each["profile"] == row["profile"]],
            facts=facts(row),
            commands=commands(row),
        )

    def photo(self, request: Request) -> Response:
        """One photo with its boxes and crops, its versions, and the photos before and after it."""
        source, image_id, day = _photo_of(request.query_params)
        rows = self._queries.photo(source, image_id, day)
        if not rows:
            raise NotFound("no such photo in the catalogue: it was never cropped, or it was erased")
        profiles = sorted({row["profile"] for row in rows})
        wanted = request.query_params.get("profile") or profiles[0]
        states = self._state.image(source, image_id)
        moved = [] if states else moved_items(self._state, Catalogue(self._store), source, [image_id])
        shown = [row for row in rows if row["profile"] == wanted] or rows
        return self.pages.show(
            "photo.html",
            row=shown[0],
            rows=shown,
            profiles=profiles,
            states=states or moved,
            moved=bool(moved),
            around=self._around(shown[0]),
            versions=versions_of(self._store, source, image_id),
        )

    def slot(self, request: Request) -> Response:
        """One slot of a shelf over time, as a strip."""
        start, moments, hours = self._moments(request.query_params)
        return self.pages.show(
            "slot.html",
            start=start,
            moments=moments,
            marked=most_changed(moments),
            hours=hours,
            crops=sum(not moment.why for moment in moments),
        )

    def slot_csv(self, request: Request) -> Response:
        """The same as a table."""
        _, moments, _ = self._moments(request.query_params)
        out = io.StringIO()
        # A spreadsheet would run a cell that begins with = + - or @ as a formula.
        rows = ([f"'{cell}" if cell[:1] in tuple("=+@") else cell for cell in row] for row in csv_rows(moments))
        csv.writer(out).writerows(rows)
        named = {"Content-Disposition": 'attachment; filename="slot.csv"'}
        return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=named)

    def slot_png(self, request: Request) -> Response:
        """The same as one picture."""
        _, moments, _ = self._moments(request.query_params)
        return Response(draw_strip(moments, self._thumbnails.get), media_type="image/png")

    def runs(self) -> Response:
        """The last batches, what failed by reason, and reports."""
        return self.pages.show("runs.html", **runs_of(self._state, self._store, self._queries))

    def quarantine(self) -> Response:
        """Bad rows as they came."""
        return self.pages.show("quarantine.html", entries=quarantined(self._store, self._state))

    def thumb(self, reference: str) -> Response:
        """The thumbnail of a crop that a page of this process showed."""
        try:
            data = self._thumbnails.get(self._signed(reference))
        except NoPicture as error:
            return PlainTextResponse(str(error), 404)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, no-cache"})

    def failed(self, reference: str) -> Response:
        """The photo around a box that was not cut, when the photo is still there."""
        row = self._signer.read(reference, FAILED_FIELDS)
        if row is None or self._state.forgotten(row["source"], [row["image_id"]]):
            raise NotFound("this address is not of this gallery; open the page again")
        try:
            data = self._failed.get(row)
        except NoPicture as error:
            return PlainTextResponse(visible(str(error)), 404)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, no-cache"})

    def file(self, reference: str) -> Response:
        """The crop itself, byte for byte."""
        row = self._signed(reference)
        kind = _TYPES.get(str(row["format"]))
        if kind is None:
            raise NotFound("this box has no crop")
        try:
            return Response(read_crop(self._store, row), media_type=kind)
        except StorageError:
            raise NotFound("this crop is no longer there") from None

    def photo_file(self, request: Request) -> Response:
        """The photo, fetched again from its URL, scaled down."""
        source, image_id, day = _photo_of(request.query_params)
        rows = self._queries.photo(source, image_id, day)
        if not rows or self._state.forgotten(source, [image_id]):
            raise NotFound("no such photo in the catalogue")
        return Response(self._photo_view(rows[0]), media_type="image/jpeg")

    def _signed(self, reference: str) -> dict[str, Any]:
        row = self._signer.read(reference)
        if row is None or not row["key"]:
            raise NotFound("this address is not of this gallery; open the page again")
        return row

    def _row(self, query: Mapping[str, str]) -> tuple[Row, list[Row]]:
        source, image_id, day = _photo_of(query)
        try:
            wanted = (query.get("profile", ""), int(query.get("box", "")))
        except ValueError:
            raise OptionError("box: not the number of a box") from None
        rows = self._queries.photo(source, image_id, day)
        for row in rows:
            if (row["profile"], row["box_index"]) == wanted:
                return row, rows
        raise NotFound("no such crop in the catalogue: it was superseded, or its photo was erased")

    def _moments(self, query: Mapping[str, str]) -> tuple[Row, list[Moment], int]:
        start, _ = self._row(query)
        if start["captured_at"] is None or not start["camera_id"]:
            raise NotFound("this photo has no capture time or no camera, so it has no timeline")
        try:
            hours = int(query.get("hours", "24"))
        except ValueError:
            hours = 0
        if not 1 <= hours <= 24 * 31:
            raise OptionError("hours: must be 1 to 744")
        half = timedelta(hours=hours / 2)
        at = start["captured_at"]
        rows = self._queries.camera(start["source"], start["camera_id"], at - half, at + half)
        moments = timeline(rows, start)
        if len(moments) > _MOST_MOMENTS:
            raise OptionError(f"hours: {len(moments):,} photos are more than {_MOST_MOMENTS}; choose fewer hours")
        return start, with_changes(moments, self._thumbnails.get), hours

    def _around(self, row: Row) -> tuple[Row | None, Row | None]:
        """Return a row of the camera's photo before and of the one after, within a day."""
        at = row["captured_at"]
        if at is None or not row["camera_id"]:
            return None, None
        rows = self._queries.camera(
            row["source"], row["camera_id"], at - timedelta(days=1), at + timedelta(days=1, microseconds=1)
        )
        before = [each for each in rows if each["captured_at"] < at]
        after = [each for each in rows if each["captured_at"] > at]
        return (before[-1] if before else None), (after[0] if after else None)


def _photo_of(query: Mapping[str, str]) -> tuple[str, str, date | None]:
    source, image_id, text = query.get("source", ""), query.get("image", ""), query.get("day", "")
    if not source or not image_id or "\x00" in source + image_id:
        raise OptionError("the address needs source and image")
    try:
        return source, image_id, date.fromisoformat(text) if text else None
    except ValueError:
        raise OptionError("day: not a day such as 2026-03-02") from None
