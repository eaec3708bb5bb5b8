"""The world, its pictures, the faults and the log behind one interface. app.py has the HTTP part.

Paging: rows are sorted by (updated_at, id). A cursor names the last row of its page, so rows that arrive
between two requests are neither skipped nor repeated, unless they arrive late.
"""

import base64
import binascii
import hashlib
import hmac
import json
import threading
from dataclasses import asdict
from datetime import UTC, datetime

from demo.access_log import AccessLog
from demo.faults import ROW_FAULTS, Fault, FaultBook
from demo.pictures import Picture, Pictures
from demo.settings import DemoSettings
from demo.spoil import Row, beheaded, spoilt_rows
from demo.world import Photo, World

_BROKEN = frozenset({Fault.BROKEN_ORIGINAL})
_LATE = frozenset({Fault.LATE_ARRIVAL})
_LOOP = frozenset({Fault.LISTING_CURSOR_LOOP})


class BadCursor(ValueError):
    """This API did not issue the cursor."""


class Simulation:
    """One simulated vendor. Thread-safe."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.log = AccessLog()
        self.faults = FaultBook(settings.faults)
        self._world = World(settings.seed, settings.stores, settings.photos, settings.boxes)
        self._pictures = Pictures(self._world, settings.megapixels, settings.cache_dir, settings.workers)
        self._lock = threading.Lock()
        token = settings.token.get_secret_value()
        self._key = hashlib.sha256(f"signatures:{settings.seed}:{token}".encode()).digest()

    def draw_ahead(self) -> None:
        """Draw every photo that exists."""
        self._pictures.get_all(self._photos())

    def is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.settings.token.get_secret_value().encode())

    def signature(self, image_id: str) -> str:
        """Return the signature in an image's address, which replaces the token."""
        return hmac.new(self._key, image_id.encode(), "sha256").hexdigest()[:32]

    def is_signed(self, image_id: str, signature: str) -> bool:
        return hmac.compare_digest(signature.encode(), self.signature(image_id).encode())

    def page(self, base_url: str, updated_after: datetime | None, limit: int, cursor: str | None) -> Row:
        """Return one page of the listing, as JSON. Raise BadCursor."""
        start = _read_cursor(cursor) if cursor else None
        photos = self._photos()
        if start is not None:
            photos = [photo for photo in photos if (photo.updated_at, photo.image_id) > start]
        elif updated_after is not None:
            photos = [photo for photo in photos if photo.updated_at >= updated_after]
        shown: list[Photo] = []
        for photo in photos:
            if len(shown) > limit:
                break
            if self.faults.strike(_LATE, photo.image_id) is None:
                shown.append(photo)
        page, more = shown[:limit], len(shown) > limit
        rows = [spoilt for row in self._rows(base_url, page) for spoilt in self._struck(row)]
        return {"images": rows, "next_cursor": self._next_cursor(cursor, page, more)}

    def images(self, base_url: str) -> list[Row]:
        """Return every row without faults: none is broken or left out."""
        return self._rows(base_url, self._photos())

    def picture(self, image_id: str) -> tuple[Picture, bytes] | None:
        """Return the photo's file and its content; None when there is no such photo."""
        with self._lock:
            photo = self._world.photo(image_id)
        if photo is None:
            return None
        return self._picture_of(photo, self._pictures.get(photo))

    def stores(self) -> Row:
        """Return the stores and their cameras, as JSON."""
        stores = [asdict(store) for store in self._world.stores]
        cameras = [
            {
                "camera_id": camera.camera_id,
                "store_id": camera.store_id,
                "model": f"{camera.model.make} {camera.model.name}",
                "aisle": camera.aisle,
            }
            for camera in self._world.cameras
        ]
        return {"stores": stores, "cameras": cameras}

    def advance(self, photos: int, late: int) -> tuple[list[str], list[str]]:
        """Make this many more captures appear. Return the ids of the punctual ones and of the late ones."""
        with self._lock:
            punctual, delayed = self._world.advance(photos, late)
        self._pictures.get_all([*punctual, *delayed])
        return [photo.image_id for photo in punctual], [photo.image_id for photo in delayed]

    def change_box(self, base_url: str, image_id: str, box_id: str) -> Row:
        """Move one box. Return the changed row. Raise KeyError."""
        with self._lock:
            photo = self._world.change_box(image_id, box_id)
        return self._rows(base_url, [photo])[0]

    def change_picture(self, base_url: str, image_id: str) -> Row:
        """Replace one picture. Return the changed row. Raise KeyError."""
        with self._lock:
            photo = self._world.change_picture(image_id)
        return self._rows(base_url, [photo])[0]

    def _photos(self) -> list[Photo]:
        with self._lock:
            return self._world.photos()

    def _struck(self, row: Row) -> list[Row | str]:
        rule = self.faults.strike(ROW_FAULTS, str(row["id"]))
        return [row] if rule is None else spoilt_rows(row, rule.fault)

    def _next_cursor(self, cursor: str | None, page: list[Photo], more: bool) -> str | None:
        if (cursor or page) and self.faults.strike(_LOOP):
            return cursor or _write_cursor(page[-1])
        return _write_cursor(page[-1]) if more else None

    def _picture_of(self, photo: Photo, picture: Picture) -> tuple[Picture, bytes]:
        content = picture.path.read_bytes()
        if self.faults.strike(_BROKEN, photo.image_id) is None:
            return picture, content
        broken = beheaded(content)
        sha256 = hashlib.sha256(broken).hexdigest()
        etag = f"{sha256[:16]}-{photo.revision}"
        return Picture(picture.path, etag, sha256, len(broken), picture.width, picture.height), broken

    def _rows(self, base_url: str, photos: list[Photo]) -> list[Row]:
        pictures = self._pictures.get_all(photos)
        return [self._row(base_url, *pair) for pair in zip(photos, pictures, strict=True)]

    def _row(self, base_url: str, photo: Photo, drawn: Picture) -> Row:
        broken = any(rule.fault in _BROKEN and rule.image_id == photo.image_id for rule in self.faults.rules())
        picture = self._picture_of(photo, drawn)[0] if broken else drawn
        return {
            "id": photo.image_id,
            "etag": picture.etag,
            "sha256": picture.sha256,
            "bytes": picture.size,
            "width": picture.width,
            "height": picture.height,
            "url": f"{base_url.rstrip('/')}/images/{photo.image_id}.jpg?sig={self.signature(photo.image_id)}",
            "captured_at": _iso(photo.captured_at),
            "updated_at": _iso(photo.updated_at),
            "store_id": photo.camera.store_id,
            "camera_id": photo.camera.camera_id,
            "boxes": [_box_row(asdict(box)) for box in self._world.boxes(photo)],
            "firmware": photo.camera.model.firmware,
            "door_open_ms": photo.door_open_ms,
            "detector": {"name": "facings", "version": "2026.1"},
        }


def _box_row(box: Row) -> Row:
    return {"id": box.pop("box_id"), **box}


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write_cursor(photo: Photo) -> str:
    place = json.dumps([photo.updated_at.isoformat(), photo.image_id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        at, image_id = json.loads(base64.urlsafe_b64decode(padded))
        return datetime.fromisoformat(at), str(image_id)
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadCursor("no cursor of this API") from error
