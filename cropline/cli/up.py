"""``cropline up``: Prefect server, worker, deployments and simulated cameras on this machine until Ctrl-C.

Each child process has its own session, so that Ctrl-C reaches only this process, which ends the children in order.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener

from cropline.cli.services import END_S, Services, StackError, ends_on_signals, listen_no_more
from cropline.config.places import config_file
from cropline.config.settings import load_installation
from cropline.core.errors import SettingsError
from cropline.core.screen import Screen
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from demo.server import DemoServer

_READY_S = 240
# Bursts of the simulated cameras: photos, then seconds until the next.
_BURSTS = ((6, 40), (2, 60), (14, 75), (4, 50))


def run_up(out: Path, port: int, *, demo: bool) -> None:
    """Start everything, print the addresses, and wait for Ctrl-C. Raises StackError when a service ends by itself."""
    screen = Screen()
    root = Path.cwd()
    folder = out.resolve()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    port = _free(port)
    with ends_on_signals(), ExitStack() as stack:
        cameras = stack.enter_context(_cameras(folder, screen)) if demo else None
        settings = _demo_settings(cameras, folder) if cameras else _own_settings(root)
        files, shown = _browsable(settings)
        gallery = _free(0)
        shown |= {"CROPLINE_STORAGE__GALLERY_URL": f"http://127.0.0.1:{gallery}"}
        environment = _environment(folder, port, shown | settings)
        services = Services(root, folder / "logs", environment)
        stack.callback(services.end)
        if files:
            services.start("files", "http.server", *files)
        _start(services, port, screen)
        services.start(
            "gallery", "cropline.cli", "gallery", "--port", str(gallery), "--cache", str(folder / "thumbnails")
        )
        if cameras is not None:
            stack.enter_context(_bursts(cameras))
        _show_places(screen, folder, cameras, environment, gallery)
        try:
            services.watch()
        except KeyboardInterrupt:
            listen_no_more()
            screen.print("\nending ...")
    screen.print("all services have stopped")


def _start(services: Services, port: int, screen: Screen) -> None:
    with screen.status("starting the Prefect server"):
        services.start("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        _wait_for(f"http://127.0.0.1:{port}/api/health", services)
    with screen.status("deploying"):
        services.finish("deploy", "automations.deploy", "--crash-leftovers")
    services.start("worker", "prefect", "worker", "start", "--pool", "cropline")


def _wait_for(url: str, services: Services) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        services.check()
        try:
            with opener.open(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise StackError(f"the server did not answer at {url} within {_READY_S} s")


def _commands(folder: Path, environment: Mapping[str, str], *, demo: bool) -> str:
    """Return the shell line that connects another terminal to this stack."""
    if not demo:
        return f"export PREFECT_API_URL={environment['PREFECT_API_URL']}"
    from cropline.cli.demo import write_env

    names = ("PREFECT_HOME", "PREFECT_API_URL")
    values = {name: value for name, value in environment.items() if name.startswith("CROPLINE_") or name in names}
    return f"source {write_env(folder, values)}"


def _show_places(
    screen: Screen, folder: Path, cameras: DemoServer | None, environment: Mapping[str, str], gallery: int
) -> None:
    screen.print("[bold]cropline is up[/bold]; press Ctrl-C to end it\n", markup=True)
    lines = [("Prefect UI", environment["PREFECT_API_URL"].removesuffix("/api"))]
    if cameras is not None:
        lines.append(("camera API", f"{cameras.base_url}/docs"))
    lines += [
        ("gallery", f"http://127.0.0.1:{gallery}"),
        ("output", environment.get("CROPLINE_STORAGE__BROWSE_URL") or environment["CROPLINE_STORAGE__URL"]),
        ("logs", str(folder / "logs")),
        ("other shells", _commands(folder, environment, demo=cameras is not None)),
    ]
    for name, value in lines:
        screen.print(f"  {name:<13} {value}", soft_wrap=True)


def _environment(folder: Path, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}/api"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CROPLINE_"))}
    return kept | {
        **settings,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_UI_API_URL": url,
        # With leases in memory, a restart of the server would end runs that hold a slot.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A run starts soon after Run is pressed: the default of ten seconds is for remote servers.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _browsable(settings: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of a web server for a local output, and the setting for its links in summaries."""
    here = StoreSpec(settings["CROPLINE_STORAGE__URL"]).local_path
    if here is None or "CROPLINE_STORAGE__BROWSE_URL" in settings:
        return [], {}
    here.mkdir(parents=True, exist_ok=True)
    port = _free(0)
    arguments = [str(port), "--bind", "127.0.0.1", "--directory", str(here)]
    return arguments, {"CROPLINE_STORAGE__BROWSE_URL": f"http://127.0.0.1:{port}"}


def _demo_settings(cameras: DemoServer, folder: Path) -> dict[str, str]:
    from cropline.cli.demo import demo_settings
    from cropline.config.state import StateSettings
    from cropline.state import State

    settings = demo_settings(cameras.base_url, cameras.token, folder)
    # The simulated cameras use another port at each start.
    with State.open(StateSettings.model_validate({"url": settings["CROPLINE_STATE__URL"]})) as state:
        state.move(settings["CROPLINE_API__SOURCE"], api=cameras.base_url)
    return settings


def _own_settings(root: Path) -> dict[str, str]:
    """Return the user's settings with absolute paths: a worker runs each flow in a temporary folder."""
    from dotenv import dotenv_values

    settings = load_installation()
    if not all(settings.of(name).api.is_set for name in settings.source_names):
        raise SettingsError(
            "CROPLINE_API__URL: no image API is set; set it, or run without DEMO=0 or --no-demo for simulated cameras"
        )
    values = {name: value for name, value in dotenv_values(root / ".env").items() if value is not None}
    values |= os.environ
    own = {name: value for name, value in values.items() if name.startswith("CROPLINE_")}
    state = settings.state.url.get_secret_value()
    if state.startswith("sqlite:///") and not state.startswith("sqlite:////"):
        state = f"sqlite:///{(root / state.removeprefix('sqlite:///')).resolve()}"
    config = config_file()
    if config is not None:
        own["CROPLINE_CONFIG"] = str(config.resolve())
    if settings.api.kind in ("files", "bucket"):
        own["CROPLINE_API__URL"] = settings.api.url
    return own | {"CROPLINE_STORAGE__URL": settings.storage.url, "CROPLINE_STATE__URL": state}


@contextmanager
def _cameras(folder: Path, screen: Screen) -> Iterator[DemoServer]:
    from cropline.cli.demo import check_demo_installed

    check_demo_installed()
    from demo.server import DemoServer

    with screen.status("drawing the photos of the simulated cameras"):
        server = DemoServer(photos=24, cache_dir=folder / "camera-photos")
        server.__enter__()
    try:
        yield server
    finally:
        server.__exit__(None, None, None)


@contextmanager
def _bursts(cameras: DemoServer) -> Iterator[None]:
    """Let the simulated cameras take photos in bursts inside the block."""
    ended = threading.Event()

    def go_on() -> None:
        turn = 0
        while not ended.wait(_BURSTS[turn % len(_BURSTS)][1]):
            cameras.control.advance(photos=_BURSTS[turn % len(_BURSTS)][0])
            turn += 1

    thread = threading.Thread(target=go_on, name="bursts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(END_S)


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SettingsError(f"--port {port}: cannot be used ({error.strerror}); name another, or 0") from None
        found: int = probe.getsockname()[1]
        return found
