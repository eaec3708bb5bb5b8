"""``cropline gallery``: the web pages over the catalogue, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cropline.cli.photo_view import cut, view_row
from cropline.cli.services import ends_on_signals
from cropline.cli.show import announced
from cropline.config.settings import Settings, load_installation
from cropline.core.errors import CroplineError, SettingsError
from cropline.core.screen import Screen
from cropline.core.store_spec import StoreSpec

_ERASED_EVERY_S = 20


class PhotoGone(CroplineError):
    """The photo cannot be fetched again."""

    code = "not_found"


def run_gallery(host: str, port: int, token: str | None, cache: Path | None, cache_mb: int) -> None:
    """Serve the gallery until Ctrl-C or SIGTERM. Raises SettingsError for an address that cannot be used or is open."""
    from cropline.gallery.access import LOOPBACK

    if host not in LOOPBACK and not token:
        raise SettingsError(f"--host {host}: others can reach this address; protect it with --token")
    with serving(load_installation(), host, port, token, cache or default_cache(), cache_mb) as address:
        screen = Screen()
        screen.print(f"gallery at {address}{f'/?token={token}' if token else ''}; press Ctrl-C to end", soft_wrap=True)
        with ends_on_signals():
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                screen.print("ended")


def default_cache() -> Path:
    """Return the folder for thumbnails below the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cropline"


@contextmanager
def serving(settings: Settings, host: str, port: int, token: str | None, cache: Path, cache_mb: int) -> Iterator[str]:
    """Serve the gallery inside the block; yield its address. ``port`` 0: a free one."""
    import uvicorn

    from cropline.gallery.app import build
    from cropline.gallery.thumbnails import Thumbnails
    from cropline.state import State

    with State.open(settings.state) as state:
        thumbnails = Thumbnails(settings.storage.spec, cache, cache_mb * 1_000_000)
        app = build(settings, state, thumbnails, token=token, photo_view=lambda row: photo_jpeg(settings, row))
        # Access logs would hold ids and the token.
        config = uvicorn.Config(app, host=host, port=port, access_log=False, log_level=logging.WARNING, lifespan="off")
        server = uvicorn.Server(config)
        sockets = [_bound(config, host, port)]
        thread = threading.Thread(target=server.run, args=(sockets,), name="gallery", daemon=True)
        thread.start()
        ended = threading.Event()
        cleaner = threading.Thread(target=_drop_erased, args=(thumbnails, state, ended), name="erased", daemon=True)
        cleaner.start()
        try:
            shown = f"[{host}]" if ":" in host else host
            yield f"http://{shown}:{sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            ended.set()
            thread.join(10)
            cleaner.join(10)
            thumbnails.close()


def _bound(config: Any, host: str, port: int) -> Any:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"--host {host} --port {port}: cannot be used ({error.strerror})") from None
    listener.listen(config.backlog)
    return listener


def _drop_erased(thumbnails: Any, state: Any, ended: threading.Event) -> None:
    """Remove thumbnails of erased photos from the cache, now and then."""
    from cropline.gallery.thumbnails import forget_erased

    while not ended.wait(_ERASED_EVERY_S):
        try:
            forget_erased(thumbnails, state.forgotten)
        except CroplineError as error:
            Screen().print(f"{error.code}: {error}", soft_wrap=True)


def photo_jpeg(settings: Settings, row: dict[str, Any]) -> bytes:
    """Return the photo of a catalogue row, fetched again by the pipeline's own rules, as a JPEG of at most 2000 px.

    A crop process decodes it: any photo may be hostile. Raises PhotoGone.
    """
    own = settings.of(row["source"]) if row["source"] in settings.source_names else settings
    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        image = view_row(0, "") | announced(settings, row)
        (view,) = cut([image], StoreSpec(Path(folder).as_uri()), own.fetch, own.pictures)
        if view["status"] != "written":
            raise PhotoGone(f"the photo cannot be fetched again: {view['reason']}: {view['detail']}")
        return Path(folder, view["key"]).read_bytes()
