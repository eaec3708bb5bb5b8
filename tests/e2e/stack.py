"""A real Prefect server, work pool and worker, and a live camera API, for the end-to-end tests.

Everything listens on its own loopback ports and uses its own folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from demo.server import DemoServer
from tests.e2e.warm import PROGRAMS, Warm
from tests.integration.fork_server import ForkedRun, ForkServer
from tests.ports import free_port

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
_TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


class Stack:
    """One folder, one server, any number of workers. All of its processes get ``environment``.

    warm: where runs and commands start that need not be new processes. Without it, all are.
    """

    def __init__(self, folder: Path, api: DemoServer, warm: Warm | None = None) -> None:
        self.folder = folder
        self.api = api
        self.warm = warm
        self.port = free_port()
        self.ui = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.ui}/api"
        self.http = requests.Session()
        self.http.trust_env = False
        # One connection per request: the server closes idle ones after five seconds, possibly as the next POST is sent.
        self.http.headers["Connection"] = "close"
        # Prefect's server answers 503 without Retry-After when SQLite was busy (is_client_retryable_exception
        # in its server/api/server.py): the transaction was rolled back and the client should retry. Prefect's
        # client, used by flows, workers and the deploy command, retries every method five times
        # (PREFECT_CLIENT_MAX_RETRIES). No other response and no broken connection is retried here.
        again = Retry(
            connect=0,
            read=0,
            status=5,
            backoff_factor=1,
            status_forcelist=[503],
            allowed_methods=None,
            raise_on_status=False,
        )
        self.http.mount("http://", HTTPAdapter(max_retries=again))
        self.environment = self._clean_environment() | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_UI_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # The server keeps the events of task runs and makes no rows of them: that takes half of its time.
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
            # As for all tests: tests/conftest.py.
            **{name: os.environ[name] for name in ("PREFECT_API_SSL_CERT_FILE", "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED")},
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "DO_NOT_TRACK": "1",
            # Prefect's SQLite has kept writers waiting for a minute, its own limit, after which a request is repeated.
            "PREFECT_API_REQUEST_TIMEOUT": "180",
            # A worker looks for runs every ten seconds by default; each run would wait half of that.
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "CROPLINE_API__SOURCE": "cams",
            "CROPLINE_API__URL": api.base_url,
            "CROPLINE_API__TOKEN": api.token,
            "CROPLINE_FETCH__ALLOW_LOOPBACK": "true",
            "CROPLINE_FETCH__TIMEOUT_S": "600",
            "CROPLINE_STORAGE__URL": (folder / "output").as_uri(),
            "CROPLINE_STATE__URL": f"sqlite:///{folder / 'state.db'}",
            "CROPLINE_ENGINE__PROCESSES": "1",
            "PYTHONPATH": str(ROOT),
        }

    @staticmethod
    def _clean_environment() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith(("CROPLINE_", "PREFECT_"))}

    def python(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run ``python -m ...`` to its end in the checkout, warm if possible."""
        python = sys.executable if self.warm is None else self.warm.folder / "python"
        return subprocess.run(
            [python, "-m", *arguments],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def shell(self, commands: str, timeout: float = 300, *, warm: bool = False) -> subprocess.CompletedProcess[str]:
        """Run lines as a reader types them, with .venv activated; the first failure ends them."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{self.environment.get('PATH', '')}"
        if warm and self.warm is not None:
            path = f"{self.warm.folder}{os.pathsep}{path}"
        return subprocess.run(
            ["bash", "-euc", commands],
            env=self.environment | {"PATH": path}, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    @contextmanager
    def process(self, name: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``python -m ...`` in its own process group during the block; its output goes to a log file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=self.environment | environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            end(process)

    @contextmanager
    def server(self, forks: ForkServer, database: Path) -> Iterator[None]:
        """Run the Prefect server on a copy of this new database, in a fork, and wait until it answers."""
        self.with_database(self.folder / "prefect", database)
        words = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        code = f"import sys; sys.argv = {words!r}; {PROGRAMS['prefect']}"
        run = forks.start(code, self.environment, log=self.folder / "server.log")
        try:
            self.until(lambda: self._answers(run), "the server answers", timeout=180)
            yield
        finally:
            run.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                run.wait(20)
            run.close()

    @staticmethod
    def with_database(home: Path, database: Path) -> None:
        """Give a server with this PREFECT_HOME a copy of a new database: its migrations take most of its start."""
        home.mkdir(parents=True)
        shutil.copyfile(database, home / "prefect.db")

    def _answers(self, run: ForkedRun) -> bool:
        assert run.poll() is None, f"the server ended: see {self.folder / 'server.log'}"
        try:
            return self.http.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    @contextmanager
    def worker(self, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker of the pool."""
        with self.process("worker", "prefect", "worker", "start", "--pool", "cropline", **environment) as process:
            yield process

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the server's REST API."""
        answer = self.http.request(method, f"{self.url}{path}", json=body, timeout=60)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def run(self, deployment: str, *, cold: bool = False, **parameters: Any) -> UUID:
        """Start a run, as the UI's button does. cold: in a new process, as Prefect's worker does by itself."""
        found = self.ask("GET", f"/deployments/name/{deployment}/{deployment}")
        body: dict[str, Any] = {"parameters": parameters}
        if self.warm is not None and not cold:
            body["job_variables"] = {"command": str(self.warm.folder / "engine")}
        made = self.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)
        return UUID(made["id"])

    def warm_up(self, deployment: str) -> None:
        """Let all later runs of a deployment be warm, those too that a form or an event starts."""
        assert self.warm is not None
        found = self.ask("GET", f"/deployments/name/{deployment}/{deployment}")
        job = {"command": str(self.warm.folder / "engine")}
        self.ask("PATCH", f"/deployments/{found['id']}", {"job_variables": job})

    def pause(self, deployment: str, *, paused: bool = True) -> None:
        """Pause or resume a deployment's schedule."""
        found = self.ask("GET", f"/deployments/name/{deployment}/{deployment}")
        self.ask("PATCH", f"/deployments/{found['id']}", {"paused": paused})

    def cancel(self, run: UUID) -> None:
        """Cancel a run, as the UI's button does."""
        self.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})

    def works(self) -> dict[str, str]:
        """Return {image id: state}, read with the plain driver."""
        return dict(self._sql("SELECT image_id, state FROM images"))

    def batches(self) -> list[tuple[str, str, int, str]]:
        """Return (id, state, attempt, end of the lease) of every batch, oldest first."""
        return self._sql("SELECT batch_id, state, attempt, lease_until FROM batches ORDER BY created_at")

    def _sql(self, query: str) -> list[Any]:
        path = self.folder / "state.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(path)
        try:
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'batches'").fetchone()
            return connection.execute(query).fetchall() if made else []  # the first run is still creating it
        finally:
            connection.close()

    def state(self, run: UUID) -> str:
        """Return the type of a run's state."""
        return str(self.ask("GET", f"/flow_runs/{run}")["state_type"])

    def ended(self, run: UUID, timeout: float = 240) -> str:
        """Wait for a run's end; return the type of its last state."""
        return self.until(
            lambda: (state := self.state(run)) in _TERMINAL and state, f"run {run} ends", timeout, every=1
        )

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Return the runs of a deployment, oldest first."""
        body = {"deployments": {"name": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return list(self.ask("POST", "/flow_runs/filter", body))

    def waiting(self) -> list[str]:
        """Return the ids of the runs that were asked for, by whomever, and that no worker has taken."""
        states = {"type": {"any_": ["SCHEDULED", "PENDING"]}}
        found = self.ask("POST", "/flow_runs/filter", {"flow_runs": {"state": states}})
        return [run["id"] for run in found if not run["auto_scheduled"]]

    def artifacts(self, key: str) -> list[dict[str, Any]]:
        """Return the artifacts of a key, newest first."""
        body = {"artifacts": {"key": {"any_": [key]}}, "sort": "UPDATED_DESC"}
        return list(self.ask("POST", "/artifacts/filter", body))

    def logs(self, run: UUID) -> str:
        """Return a run's log."""
        body = {"logs": {"flow_run_id": {"any_": [str(run)]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(entry["message"] for entry in self.ask("POST", "/logs/filter", body))

    def until(self, condition: Callable[[], T], what: str, timeout: float = 120, every: float = 0.2) -> T:
        """Poll until the condition is true. Raises AssertionError that names ``what``.

        every: seconds between two looks; a question to Prefect's server costs 20 ms of CPU.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            answer = condition()
            if answer:
                return answer
            time.sleep(every)
        raise AssertionError(f"waited {timeout:.0f} s in vain until {what}; logs lie in {self.folder}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything it started: first SIGTERM, then SIGKILL."""
    others = family(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
    kill({*others, *family(process.pid)})
    process.wait()


def kill(pids: Iterable[int]) -> None:
    """SIGKILL, as in a power cut."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    """Return whether a process runs. An ended one may be listed until its parent reads its exit status."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def family(root: int) -> set[int]:
    """Return a process, its descendants, and the processes in its session."""
    parents, sessions = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)], sessions[int(entry.name)] = int(fields[1]), int(fields[3])
    found = {pid for pid, session in sessions.items() if session == root} | ({root} & parents.keys())
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found
