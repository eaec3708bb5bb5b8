"""``cropline metrics``: the Prometheus exporter, until Ctrl-C."""

from __future__ import annotations

import threading
from datetime import timedelta

from cropline.cli.services import ends_on_signals
from cropline.config.settings import load_installation
from cropline.core.errors import CroplineError
from cropline.core.screen import Screen
from cropline.metrics.server import serving


def run_metrics(host: str, port: int, window_minutes: float) -> None:
    """Serve /metrics until Ctrl-C or SIGTERM. Errors of a scrape are printed; the exporter goes on."""
    screen = Screen()

    def on_error(error: CroplineError) -> None:
        screen.print(f"{error.code}: {error}", soft_wrap=True)

    window = timedelta(minutes=window_minutes)
    with ends_on_signals(), serving(load_installation(), host, port, window, on_error) as chosen:
        shown = f"[{host}]" if ":" in host else host
        screen.print(f"metrics at http://{shown}:{chosen}/metrics; press Ctrl-C to end", soft_wrap=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            screen.print("ended")
