"""Photos drawn from a seed, and a real HTTP server in this process that serves them."""

import io
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image, ImageDraw


def drawn(width: int, height: int, seed: int = 1) -> Image.Image:
    """Return an RGB picture in which all regions differ."""
    chance = random.Random(seed)
    image = Image.new("RGB", (width, height), (chance.randrange(256), 120, 90))
    pen = ImageDraw.Draw(image)
    for _ in range(60):
        left, top = chance.randrange(width), chance.randrange(height)
        colour = tuple(chance.randrange(256) for _ in range(3))
        pen.rectangle(
            (left, top, left + chance.randrange(3, 1 + width // 3), top + chance.randrange(3, 1 + height // 3)), colour
        )
    for x in range(0, width, 7):
        pen.point((x, x * height // width), (x % 256, 255 - x % 256, 7))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@dataclass
class PhotoServer:
    """``url(name)`` serves ``photos[name]``, a body or a status; ``served`` counts requests by name."""

    port: int
    photos: dict[str, bytes | int] = field(default_factory=dict)
    served: Counter[str] = field(default_factory=Counter)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@contextmanager
def photo_server() -> Iterator[PhotoServer]:
    """Start a server on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.lstrip("/").split("?")[0]
            found = served.photos.get(name, 404)
            served.served[name] += 1
            body = found if isinstance(found, bytes) else b""
            self.send_response(200 if isinstance(found, bytes) else found)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = PhotoServer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
