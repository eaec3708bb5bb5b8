"""The API's requests and what was sent, as the tests count them. Control and documentation are left out."""

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
    """One request. ``bytes``: of the body sent to the network. ``complete``: whether its end was sent too."""

    method: str
    path: str
    image_id: str | None
    authorized: bool
    status: int = 0
    bytes: int = 0
    complete: bool = False


class AccessLog:
    """The newest 100,000 requests, in the order in which their responses began."""

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
        """Return the number of requests per image, whatever the response."""
        with self._lock:
            return dict(Counter(entry.image_id for entry in self._entries if entry.image_id is not None))


class LoggedApp:
    """ASGI middleware: adds an entry when a response begins, and updates it before each piece is sent.

    So a client that has its response finds it in the log.
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
