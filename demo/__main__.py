"""``python -m demo``: serve the simulated API, draw its photos ahead, or write its stores table."""

import argparse
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from demo.faults import Fault, FaultRule
from demo.settings import DemoSettings, default_cache_dir, default_workers

if TYPE_CHECKING:
    import uvicorn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        status: int = given.run(given)
    except ValidationError as error:
        parser.error("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the API until interrupted, and print its address")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8099, help="0 chooses a free port")
    serve.add_argument("--token", default="demo-token")
    serve.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_fault,
        metavar="NAME[@IMAGE][xTIMES]",
        help="can be given several times",
    )
    _world_options(serve)
    serve.set_defaults(run=_serve)

    draw = commands.add_parser("draw", help="draw the photos ahead")
    _world_options(draw)
    draw.set_defaults(run=_draw)

    stores = commands.add_parser("stores", help="write the stores table as Parquet")
    stores.add_argument("--out", type=Path, required=True)
    stores.add_argument("--stores", type=int, default=6)
    stores.set_defaults(run=_stores)

    child = commands.add_parser("child")
    child.add_argument("listener", type=int)
    child.set_defaults(run=_child)
    return parser


def _world_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--stores", type=int, default=6)
    parser.add_argument("--megapixels", type=float, default=9.0)
    parser.add_argument("--cache-dir", type=Path, default=default_cache_dir())
    parser.add_argument("--workers", type=int, default=default_workers(), help="processes that draw ahead")


def _fault(text: str) -> FaultRule:
    name, _, times = text.rpartition("x") if text.rpartition("x")[2].isdigit() else (text, "", "")
    fault, _, image_id = name.partition("@")
    return FaultRule(fault=Fault(fault), image_id=image_id or None, times=int(times) if times else None)


def _settings(given: argparse.Namespace) -> DemoSettings:
    names = ("photos", "seed", "stores", "megapixels", "cache_dir", "workers")
    fields = {name: getattr(given, name) for name in names}
    if hasattr(given, "token"):
        fields.update(token=given.token, faults=tuple(given.fault))
    return DemoSettings(**fields)


def _serve(given: argparse.Namespace) -> int:
    settings = _settings(given)
    with socket.create_server((given.host, given.port)) as listener:
        address = f"http://{given.host}:{listener.getsockname()[1]}"
        print(f"{address}/v1/images  (documentation: {address}/docs)", flush=True)
        _run(listener, settings)
    return 0


def _draw(given: argparse.Namespace) -> int:
    from demo.simulation import Simulation

    Simulation(_settings(given)).draw_ahead()
    return 0


def _stores(given: argparse.Namespace) -> int:
    from demo.stores import write_stores

    print(f"{write_stores(given.out, stores=given.stores)} stores written to {given.out}")
    return 0


def _child(given: argparse.Namespace) -> int:
    """Run DemoServer's process: the first line of standard input has the settings; its end stops the server."""
    settings = DemoSettings.model_validate_json(sys.stdin.buffer.readline())
    with socket.socket(fileno=given.listener) as listener:
        _run(listener, settings, until_stdin_ends=True)
    return 0


def _run(listener: socket.socket, settings: DemoSettings, until_stdin_ends: bool = False) -> None:
    # Imported here: the drawing processes import this module again and need neither.
    import uvicorn

    from demo.app import create_app
    from demo.simulation import Simulation

    simulation = Simulation(settings)
    simulation.draw_ahead()
    # Quiet: uvicorn would log a traceback for every response that a fault breaks off.
    config = uvicorn.Config(create_app(simulation), log_level="critical", access_log=False, timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    if until_stdin_ends:
        threading.Thread(target=_stop_at_end_of_stdin, args=(server,), daemon=True).start()
    server.run(sockets=[listener])


def _stop_at_end_of_stdin(server: "uvicorn.Server") -> None:
    # Not sys.stdin: a thread that waits there holds a lock that the interpreter needs at its end.
    while os.read(0, 1024):
        pass
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
