"""The test bed of the crop engine: drawn photos with their boxes, a photo server, an S3-compatible sink.

Photos are kept in the system's temporary folder between runs: drawing takes longer than most measurements.
"""

from __future__ import annotations

import getpass
import io
import math
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

SEED = 20_261_122
BOXES = 37
QUALITY = 92
GRAIN = 2.0  # grey levels of sensor noise: the files then have about 2.6 MB
VERSION = 1  # of the drawing code: another version draws again


@dataclass(frozen=True)
class BedPhoto:
    """One photo on disk. Boxes in 0..1."""

    path: Path
    width: int
    height: int
    boxes: tuple[tuple[float, float, float, float], ...]


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new folder for a benchmark's output, in memory where the system has such a file system.

    On a disk the cost of a new file depends on earlier files: for five minutes after a deletion, ext4 looks through
    deleted files for each new one, which took a fifth of the crop engine's time after a test run.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="cropline-bench-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def draw_bed(count: int) -> list[BedPhoto]:
    """Return the first ``count`` photos of the bed, drawn if missing."""
    folder = Path(tempfile.gettempdir()) / f"cropline-bed-{VERSION}-{SEED}"
    folder.mkdir(exist_ok=True)
    missing = [number for number in range(count) if not _path(folder, number).exists()]
    if missing:
        print(f"drawing {len(missing)} photos into {folder} ...", file=sys.stderr)
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            list(pool.map(_draw, [folder] * len(missing), missing))
    return [_photo(folder, number) for number in range(count)]


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}.jpg"


def _photo(folder: Path, number: int) -> BedPhoto:
    width, height = _size(number)
    return BedPhoto(_path(folder, number), width, height, tuple(_boxes(number, width, height)))


def _size(number: int) -> tuple[int, int]:
    pixels = random.Random(f"{SEED}-{number}-size").uniform(8e6, 14e6)
    width = int(math.sqrt(pixels * 4 / 3)) // 16 * 16
    return width, int(pixels / width) // 16 * 16


def _boxes(number: int, width: int, height: int) -> Iterator[tuple[float, float, float, float]]:
    """Yield boxes of 200 x 300 px in the median, together about 30 % of the picture."""
    dice = random.Random(f"{SEED}-{number}-boxes")
    for _ in range(BOXES):
        across = min(width, 200 * math.exp(dice.gauss(0, 0.45)))
        down = min(height, 300 * math.exp(dice.gauss(0, 0.45)))
        left, top = dice.uniform(0, width - across), dice.uniform(0, height - down)
        yield left / width, top / height, (left + across) / width, (top + down) / height


def shelf_boxes(photo: BedPhoto) -> list[tuple[float, float, float, float]]:
    """Return as many boxes as the bed's, of its median size, where products stand: side by side on four shelves."""
    dice = random.Random(f"{SEED}-{photo.path.name}-shelves")
    found = []
    for number in range(BOXES):
        shelf, place = number % 4, number // 4
        floor = (shelf + 0.9) / 4 * photo.height + dice.uniform(-20, 20)
        across, down = 200 * math.exp(dice.gauss(0, 0.15)), 300 * math.exp(dice.gauss(0, 0.15))
        left = (place + 0.1) / 10 * photo.width
        found.append(
            (left / photo.width, (floor - down) / photo.height, (left + across) / photo.width, floor / photo.height)
        )
    dice.shuffle(found)
    return found


def _draw(folder: Path, number: int) -> None:
    dice = random.Random(f"{SEED}-{number}-picture")
    width, height = _size(number)
    small = width // 160, height // 160
    picture = Image.frombytes("RGB", small, dice.randbytes(small[0] * small[1] * 3)).resize((width, height))
    pen = ImageDraw.Draw(picture)
    for _ in range(120):
        x, y = dice.randrange(width), dice.randrange(height)
        pen.rectangle((x, y, x + dice.randrange(40, 260), y + dice.randrange(60, 400)), _colour(dice))
        for line in range(6):
            pen.text((x + 5, y + 5 + line * 30), f"COLA {dice.randrange(100)}.99", _colour(dice), font_size=28)
    tile = Image.frombytes("L", (512, 512), bytes(round(dice.gauss(128, GRAIN)) for _ in range(512 * 512)))
    grain = Image.new("L", (width, height))
    for x in range(0, width, 512):
        for y in range(0, height, 512):
            grain.paste(tile.rotate(90 * dice.randrange(4)), (x, y))
    out = io.BytesIO()
    ImageChops.add(picture, Image.merge("RGB", (grain,) * 3), 1, -128).save(out, "JPEG", quality=QUALITY)
    # Atomic: an interrupted run must not leave half a photo.
    unfinished = _path(folder, number).with_suffix(".part")
    unfinished.write_bytes(out.getvalue())
    unfinished.rename(_path(folder, number))


def _colour(dice: random.Random) -> tuple[int, int, int]:
    return dice.randrange(256), dice.randrange(256), dice.randrange(256)


@contextmanager
def serve(photos: Path, sink: Path) -> Iterator[tuple[str, str]]:
    """Yield (which server, base address): photos under /photos/, PUT under /sink/, in a separate process."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as scratch:
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if nginx:
            config = Path(scratch) / "nginx.conf"
            config.write_text(
                _NGINX.format(scratch=scratch, port=port, photos=photos, sink=sink, user=getpass.getuser())
            )
            command = [nginx, "-p", scratch, "-c", str(config), "-e", f"{scratch}/error.log"]
        else:
            command = [sys.executable, "-m", "benchmarks.file_server", str(port), str(photos), str(sink)]
        with subprocess.Popen(command) as server:
            try:
                _wait_for(port)
                yield ("nginx" if nginx else "python http.server"), f"http://127.0.0.1:{port}"
            finally:
                server.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


# One worker, as one remote server would use no more of this machine. The ETag makes PUT responses look like S3's.
_NGINX = """
daemon off;
user {user};
worker_processes 1;
pid {scratch}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    client_max_body_size 100m;
    server {{
        listen 127.0.0.1:{port};
        location /photos/ {{ alias {photos}/; }}
        location /sink/ {{
            alias {sink}/;
            dav_methods PUT;
            create_full_put_path on;
            add_header ETag '"0"' always;
        }}
    }}
}}
"""
