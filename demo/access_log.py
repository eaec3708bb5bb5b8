"""What was asked of the API and what went out, as the tests count it. Control and documentation are left out."""

import re
import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COUNTED = ("/v1/", "/images/")
_IMAGE = re.compile(r"^/images/(?P<image_id>.+)\.jpg$")
_KEPT = 100_000


@dataclass(slots=True)
class Entry:
    """One request. ``bytes`` is of the body that was handed to the network; ``complete`` that its end was too."""

    method: str
    path: str
    image_id: str | None
    authorized: bool
    status: int = 0
    bytes: int = 0
    complete: bool = False


class AccessLog:
    """The newest 100,000 requests, in the order in which their answers began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_KEPT)

    def add(self, entry: Entry) -> None:
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def entries(self) -> list[dict[str, object]]:
        with self._lock:
            return [asdict(entry) for entry in self._entries]

    def counts(self) -> dict[str, int]:
        """Requests for each image that was asked for, whatever they were answered."""
        with self._lock:
            return dict(Counter(entry.image_id for entry in self._entries if entry.image_id is not None))


class LoggedApp:
    """ASGI middleware: writes an entry when an answer begins, and fills it before each piece leaves.

    So a client that has its answer finds it in the log.
    """

    def __init__(self, app: ASGIApp, log: AccessLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_COUNTED):
            await self._app(scope, receive, send)
            return
        entry = _entry(scope)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                self._log.add(entry)
            elif message["type"] == "http.response.body":
                entry.bytes += len(message.get("body", b""))
                entry.complete = not message.get("more_body", False)
            await send(message)

        await self._app(scope, receive, noted)


def _entry(scope: Scope) -> Entry:
    found = _IMAGE.match(scope["path"])
    authorized = any(name == b"authorization" for name, _ in scope["headers"])
    return Entry(scope["method"], scope["path"], found["image_id"] if found else None, authorized)
