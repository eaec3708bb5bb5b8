"""The simulated API in a separate process, and a small client for its control routes.

    with DemoServer(photos=12, megapixels=0.3) as api:
        requests.get(api.images_url, headers={"Authorization": f"Bearer {api.token}"}, timeout=5)
        api.control.add_fault("image_500", times=3)

The port is bound before the process starts and passed to it, so it cannot be taken in between. The process holds
one end of a pipe and ends when the other end closes: it cannot outlive a parent that was killed.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from demo.faults import Fault, FaultRule
from demo.models import JsonRow
from demo.settings import DemoSettings

_ANSWER_TIMEOUT = 120.0
_STOP_TIMEOUT = 5.0
# Seconds to start, and per megapixel that may have to be drawn first: five times what one core takes.
_START_TIMEOUT = 60.0
_DRAW_TIMEOUT = 0.2


class DemoServerError(RuntimeError):
    """The server process did not start. It wrote the reason to standard error."""


class ControlClient:
    """The control routes as methods. Every method raises requests.HTTPError when the server refuses."""

    def __init__(self, base_url: str, token: str) -> None:
        self._base_url = base_url
        self._session = requests.Session()
        # Otherwise requests would use the machine's proxy or .netrc for a loopback address.
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"

    def advance(self, photos: int = 8, late: int = 0) -> tuple[list[str], list[str]]:
        """Make more captures appear. Return the ids of the punctual ones and of the late ones."""
        answer = self._call("POST", "advance", {"photos": photos, "late": late})
        return answer["added"], answer["late"]

    def change_box(self, image_id: str, box_id: str = "b01") -> JsonRow:
        """Move one box. Return the changed row."""
        row: JsonRow = self._call("POST", "change_box", {"image_id": image_id, "box_id": box_id})
        return row

    def change_etag(self, image_id: str) -> JsonRow:
        """Replace one picture. Return the changed row."""
        row: JsonRow = self._call("POST", "change_etag", {"image_id": image_id})
        return row

    def images(self) -> list[JsonRow]:
        """Return every row without faults, in listing order."""
        rows: list[JsonRow] = self._call("GET", "images")
        return rows

    def add_fault(
        self,
        fault: Fault | str,
        image_id: str | None = None,
        times: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Switch a fault on; see FaultRule."""
        rule = FaultRule(fault=Fault(fault), image_id=image_id, times=times, seconds=seconds)
        self._call("POST", "faults", rule.model_dump(mode="json"))

    def faults(self) -> list[FaultRule]:
        """Return the active faults with their remaining times."""
        return [FaultRule.model_validate(rule) for rule in self._call("GET", "faults")]

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self._call("DELETE", "faults")

    def log(self) -> list[JsonRow]:
        """Return the requests to /v1 and /images: method, path, image_id, authorized, status, bytes, complete."""
        entries: list[JsonRow] = self._call("GET", "log")
        return entries

    def clear_log(self) -> None:
        """Clear the access log."""
        self._call("DELETE", "log")

    def counts(self) -> dict[str, int]:
        """Return the number of requests per image id."""
        counts: dict[str, int] = self._call("GET", "counts")
        return counts

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _call(self, method: str, route: str, body: JsonRow | None = None) -> Any:
        url = f"{self._base_url}/control/{route}"
        answer = self._session.request(method, url, json=body, timeout=_ANSWER_TIMEOUT)
        answer.raise_for_status()
        return answer.json() if answer.content else None


class DemoServer:
    """Runs the simulated API during the ``with`` block. Takes DemoSettings, or its fields as keywords."""

    def __init__(self, settings: DemoSettings | None = None, **fields: Any) -> None:
        if settings is not None and fields:
            raise TypeError("give settings or fields, not both")
        self.settings = settings if settings is not None else DemoSettings(**fields)
        self.token = self.settings.token.get_secret_value()
        self.base_url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._control: ControlClient | None = None

    @property
    def images_url(self) -> str:
        """The listing's address."""
        return f"{self.base_url}/v1/images"

    @property
    def control(self) -> ControlClient:
        """The control client; only inside the ``with`` block."""
        if self._control is None:
            raise RuntimeError("the server is not running")
        return self._control

    def __enter__(self) -> Self:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self._process = _start(listener.fileno(), self.settings)
        self._control = ControlClient(self.base_url, self.token)
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self) -> None:
        process = self._process
        assert process is not None
        patience = _START_TIMEOUT + _DRAW_TIMEOUT * self.settings.photos * self.settings.megapixels
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DemoServerError(f"the demo server ended with status {process.returncode}; see its errors above")
            try:
                # The port listens from the start: until the photos are drawn the request waits in its queue.
                with requests.Session() as session:
                    session.trust_env = False
                    if session.get(f"{self.base_url}/healthz", timeout=1).ok:
                        return
            except requests.RequestException:
                time.sleep(0.02)
        raise DemoServerError(f"the demo server was not ready within {patience:.0f} s")

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            # The whole group: it may still be drawing, in child processes.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(listener: int, settings: DemoSettings) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).resolve().parent.parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(  # noqa: S603 -- this interpreter, constant arguments
        [sys.executable, "-m", "demo", "child", str(listener)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(listener,),
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdin is not None
    # One line of settings. The pipe then stays open as long as the server is wanted.
    process.stdin.write(settings.model_dump_json().encode() + b"\n")
    process.stdin.flush()
    return process
