"""The exporter's HTTP server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from prometheus_client import CollectorRegistry, start_http_server

from cropline.config.settings import Settings
from cropline.core.errors import CroplineError, SettingsError
from cropline.metrics.collector import CroplineCollector
from cropline.metrics.figures import Figures
from cropline.state import State


@contextmanager
def serving(
    settings: Settings, host: str, port: int, window: timedelta, on_error: Callable[[CroplineError], None]
) -> Iterator[int]:
    """Serve the metrics inside the block. Yield the port, which the system chooses when ``port`` is 0.

    ``on_error`` gets each error of a scrape, without secrets. Raises SettingsError when the address cannot be used,
    StateError when the state cannot be opened.
    """
    with State.open(settings.state) as state:
        figures = Figures(state, settings.storage.spec, window=window, on_error=on_error)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(CroplineCollector(figures, on_error))
        figures.refresh()
        try:
            server, thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise SettingsError(f"--host {host} --port {port}: cannot be used ({error.strerror})") from None
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
