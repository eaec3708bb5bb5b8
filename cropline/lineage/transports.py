"""Sends lineage events to a file, an HTTP collector, Kafka, several of them or nowhere, within one time limit.

Each delivery says whether its event arrived; an event that did not stays in the outbox. openlineage-python's own
transports are not used: they block for 9 s or lose events (docs/decisions/0006-lineage.md).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.core.scrub import one_line
from cropline.lineage.delivery import NOT_REACHED, Delivery, PublishResult, send_to_each
from cropline.lineage.events import Event
from cropline.lineage.stored import lines, store_lines

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from cropline.config.lineage import LineageSettings
    from cropline.core.store_spec import StoreSpec

_ENDPOINT = "/api/v1/lineage"


class Publisher:
    """Sends events as the settings say. Keep one per run: ``timeout_s`` bounds all its calls together.

    No failure of the receiver is raised: the delivery reports it. An event may arrive twice, never changed.
    """

    def __init__(self, settings: LineageSettings, spec: StoreSpec) -> None:
        self._settings = settings
        self._spec = spec
        self._left_s = settings.timeout_s

    def publish(self, events: Sequence[Event], arrived: Sequence[Collection[str]] = ()) -> PublishResult:
        """Send the events in order. ``arrived``: for each event, the transports of a composite that have it already."""
        if not events:
            return PublishResult(())
        started = time.monotonic()
        try:
            return PublishResult(tuple(self._send(events, arrived, started + self._left_s)))
        finally:
            self._left_s = max(0.0, self._left_s - (time.monotonic() - started))

    def _send(self, events: Sequence[Event], arrived: Sequence[Collection[str]], deadline: float) -> list[Delivery]:
        kind = self._settings.transport
        if kind == "none":
            return [Delivery(True)] * len(events)
        if kind == "composite":
            return send_to_each(self._settings.transport_names, self._send_to_one, events, arrived, deadline)
        return self._send_to_one(kind, events, deadline)

    def _send_to_one(self, name: str, events: Sequence[Event], deadline: float) -> list[Delivery]:
        settings = self._settings
        if name == "file":
            path = settings.file_path(self._spec)
            return store_lines(self._spec, events, deadline) if path is None else append_lines(path, events, deadline)
        if name == "kafka":
            from cropline.lineage.kafka import produce

            config = {name: value.get_secret_value() for name, value in settings.kafka.items()}
            return produce(config, settings.topic, events, deadline)
        headers = {"Content-Type": "application/json"}
        if token := settings.token.get_secret_value():
            headers["Authorization"] = f"Bearer {token}"
        return Post(settings.url or "", headers, events).deliver(deadline)


def append_lines(path: Path, events: Sequence[Event], deadline: float) -> list[Delivery]:
    """Append one JSON line per event, all or none. Other processes may append at the same time.

    When an earlier writer was killed in the middle of a line, that line is ended first.
    """
    data = lines(events)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            if not _lock(file.fileno(), deadline):
                return [Delivery(False, f"{path} is locked by another process", tried=False)] * len(events)
            end = file.seek(0, os.SEEK_END)
            torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
            _write_all(file.fileno(), b"\n" + data if torn else data, end)
    except OSError as error:
        return [Delivery(False, one_line(f"{path}: {error.strerror or type(error).__name__}"))] * len(events)
    return [Delivery(True)] * len(events)


def _lock(descriptor: int, deadline: float) -> bool:
    """Lock the file until the deadline. Closing the file unlocks it."""
    import fcntl

    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        else:
            return True


def _write_all(descriptor: int, data: bytes, end: int) -> None:
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.ftruncate(descriptor, end)
        raise


class Post:
    """One delivery over HTTP, in a thread that can be abandoned.

    A socket timeout bounds a single read, not a server that sends slowly, and not name resolution. So the caller waits
    for the thread until its deadline, cuts the connection, and uses the results so far.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        events: Sequence[Event],
        *,
        sign: Callable[[bytes], dict[str, str]] | None = None,
        to: str = "the collector",
        endpoint: str = _ENDPOINT,
    ) -> None:
        self._url = url
        self._endpoint = endpoint
        self._sign = sign or (lambda _body: {})
        self._to = to
        self._headers = headers
        self._events = events
        self._done: list[Delivery] = []
        self._connection: HTTPConnection | None = None
        self._stop = threading.Event()

    def deliver(self, deadline: float) -> list[Delivery]:
        if time.monotonic() >= deadline:
            return [Delivery(False, NOT_REACHED, tried=False)] * len(self._events)
        thread = threading.Thread(target=self._run, args=(deadline,), name="lineage", daemon=True)
        thread.start()
        thread.join(max(0.0, deadline - time.monotonic()))
        self._stop.set()
        done = list(self._done)
        if thread.is_alive():
            _cut(self._connection)
            if len(done) < len(self._events):
                done.append(Delivery(False, f"{self._to} did not answer in time"))
        return done + [Delivery(False, NOT_REACHED, tried=False)] * (len(self._events) - len(done))

    def _run(self, deadline: float) -> None:
        try:
            self._send_all(deadline)
        finally:
            if self._connection is not None:
                self._connection.close()

    def _send_all(self, deadline: float) -> None:
        """Send until an answer says that the collector is down. The rest waits for the next run."""
        for event in self._events:
            if self._stop.is_set():
                return
            try:
                status = self._post(json.dumps(event).encode(), deadline)
            except (OSError, _http_error(), ValueError) as error:
                self._done.append(Delivery(False, one_line(f"cannot reach {self._to}: {type(error).__name__}")))
                return
            self._done.append(
                Delivery(True) if 200 <= status < 300 else Delivery(False, f"{self._to} answered {status}")
            )
            if status in (401, 403, 408, 429) or status >= 500:
                return

    def _post(self, body: bytes, deadline: float) -> int:
        connection = self._connection = self._connection or _connect(self._url, max(0.05, deadline - time.monotonic()))
        connection.request("POST", _path(self._url, self._endpoint), body, self._headers | self._sign(body))
        response = connection.getresponse()
        response.read(65536)
        if not response.isclosed():  # so long a body is not an answer to an event
            connection.close()
            self._connection = None
        return response.status


def _http_error() -> type[Exception]:
    from http.client import HTTPException

    return HTTPException


def _connect(url: str, timeout_s: float) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    kind: Callable[..., HTTPConnection] = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout_s)


def _path(url: str, usual: str) -> str:
    """The path and query of the url, or the usual path for a bare address."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return (parts.path.rstrip("/") or usual) + (f"?{parts.query}" if parts.query else "")


def _cut(connection: HTTPConnection | None) -> None:
    """Wakes the thread that reads from the connection. The thread ends by itself."""
    import socket

    if connection is not None and connection.sock is not None:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # already closed
