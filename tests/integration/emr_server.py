"""The REST interface of EMR Serverless on loopback, for boto3, as AWS documents it.

Job runs really run, by spark-submit, or only report a state.
"""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.contract.spark_servers import SPARK_HOME, plain_environment

_SMALL = ["--conf", "spark.ui.enabled=false", "--conf", "spark.sql.shuffle.partitions=2"]
APPLICATION = "00emrserverless1"
ROLE = "arn:aws:iam::123456789012:role/cropline"


@dataclass
class EmrServer:
    """Every job run reports ``state``, unless ``python`` is set: then spark-submit runs it with that Python."""

    folder: Path
    s3: Any  # a boto3 client of the storage
    python: Path | None = None
    state: str = "RUNNING"
    details: str = ""
    started: list[dict[str, Any]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)  # the state of a job run was requested
    cancelled: threading.Event = field(default_factory=threading.Event)
    process: "subprocess.Popen[bytes] | None" = None
    url: str = ""

    def start(self, request: dict[str, Any]) -> dict[str, str]:
        self.started.append(request)
        if self.python is not None:
            self._submit(request)
        return {"applicationId": APPLICATION, "jobRunId": "run1", "arn": f"arn:aws:emr-serverless:::/{APPLICATION}"}

    def look(self) -> dict[str, Any]:
        state = self.state
        if self.process is not None:
            state = {None: "RUNNING", 0: "SUCCESS"}.get(self.process.poll(), "FAILED")
        run = {"applicationId": APPLICATION, "jobRunId": "run1", "state": state, "stateDetails": self.details}
        self.asked.set()
        return {"jobRun": run}

    def log(self) -> str:
        return (self.folder / "driver.log").read_text()

    def _submit(self, request: dict[str, Any]) -> None:
        submit = request["jobDriver"]["sparkSubmit"]
        (defaults,) = request["configurationOverrides"]["applicationConfiguration"]
        properties = dict(defaults["properties"])
        main = self._fetch(submit["entryPoint"])
        # One core: a Python worker and a crop process for each would only cost their start.
        command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", "local[1]", *_SMALL]
        code = properties.pop("spark.submit.pyFiles").split(",")
        command += ["--py-files", ",".join(str(self._fetch(url)) for url in code)]
        command += [part for name, value in properties.items() for part in ("--conf", f"{name}={value}")]
        environment = plain_environment(PYSPARK_PYTHON=str(self.python))
        with (self.folder / "driver.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, str(main), *submit["entryPointArguments"]],
                cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _fetch(self, uri: str) -> Path:
        parts = urlsplit(uri)
        path = self.folder / Path(parts.path).name
        self.s3.download_file(parts.netloc, parts.path.lstrip("/"), str(path))
        return path


@contextmanager
def emr_server(folder: Path, s3: Any, **more: Any) -> Iterator[EmrServer]:
    """Serve on a free loopback port; what it started ends with it."""
    emr = EmrServer(folder, s3, **more)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._answer(emr.start(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def do_GET(self) -> None:
            self._answer(emr.look())

        def do_DELETE(self) -> None:
            emr.cancelled.set()
            self._answer({"applicationId": APPLICATION, "jobRunId": "run1"})

        def _answer(self, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    emr.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield emr
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        if emr.process is not None:
            if emr.process.poll() is None:
                os.killpg(emr.process.pid, signal.SIGKILL)
            emr.process.wait()
