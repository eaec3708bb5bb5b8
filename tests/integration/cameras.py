"""The simulated cameras in a thread of this process: a server of its own for every test, without a process to start."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from demo.app import create_app
from demo.server import ControlClient
from demo.settings import DemoSettings
from demo.simulation import Simulation


class Cameras:
    """A running API over real HTTP. ``control`` changes what it serves."""

    def __init__(self, base_url: str, token: str) -> None:
        self.base_url = base_url
        self.token = token
        self.images_url = f"{base_url}/v1/images"
        self.control = ControlClient(base_url, token)


def listening() -> socket.socket:
    """Return a socket at a free port, to be closed by the caller."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


@contextmanager
def cameras(
    photos: int, megapixels: float, cache_dir: Path, boxes: int | None = None, at: socket.socket | None = None
) -> Iterator[Cameras]:
    """Serve this many photos until the block ends. Equal arguments give equal photos, which are drawn once.

    ``boxes``: the most of a photo; None: all of about forty. ``at``: where to listen, one after the other; None: a free port.
    """
    settings = DemoSettings(photos=photos, megapixels=megapixels, boxes=boxes, cache_dir=cache_dir, workers=1)
    simulation = Simulation(settings)
    simulation.draw_ahead()
    app = create_app(simulation)
    config = uvicorn.Config(app, log_level="critical", log_config=None, access_log=False, timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    with at.dup() if at else listening() as listener:
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="cameras")
        serving.start()
        api = Cameras(f"http://127.0.0.1:{listener.getsockname()[1]}", settings.token.get_secret_value())
        try:
            yield api
        finally:
            api.control.close()
            server.should_exit = True
            serving.join(30)
    assert not serving.is_alive(), "the cameras do not stop"
