"""A store's fault gives one line: the store and its error code, without other text of its answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cropline.catalogue import Catalogue
from cropline.core import storage
from cropline.core.errors import CatalogueError, StorageError
from cropline.core.store_spec import StoreSpec

CANARY = "canary7f3a"


@contextmanager
def _refusing(body: str) -> Iterator[str]:
    """An S3 server that answers every PUT with 403."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Ignore this machine's AWS settings."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    return monkeypatch


def test_without_credentials_or_with_a_wrong_profile_the_error_says_so(alone: pytest.MonkeyPatch) -> None:
    spec = StoreSpec("s3://crops/a")
    with pytest.raises(StorageError, match="^cannot use s3://crops/a: no credentials; boto3 found none in the env"):
        storage.check_writable(spec)
    alone.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(StorageError, match=r"^cannot use s3://crops/b: .* \(nobodys\) could not be found$"):
        storage.check_writable(StoreSpec("s3://crops/b"))
    with pytest.raises(CatalogueError, match=r"\(nobodys\) could not be found$"):
        Catalogue(spec).version()


def test_what_the_store_answered_is_told_by_its_code_and_no_more(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("AWS_ACCESS_KEY_ID", f"AKIA{CANARY}")
    alone.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    answer = f"<Error><Code>AccessDenied</Code><Message>no entry for {CANARY}</Message></Error>"
    with _refusing(answer) as address, pytest.raises(StorageError) as caught:
        storage.check_writable(StoreSpec("s3://crops/a", address))
    said = f"cannot write s3://crops/a/.cropline/writable at {address}: PermissionDeniedError: AccessDenied"
    assert str(caught.value) == said


def test_a_store_that_does_not_answer_is_named_with_its_endpoint(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("AWS_ACCESS_KEY_ID", "test")
    alone.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(StorageError, match=f" at {address}: GenericError: error sending request$"):
            storage.check_writable(StoreSpec("s3://crops/a", address))


def test_a_local_store_says_what_the_system_said(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    with pytest.raises(StorageError, match="gone: FileNotFoundError: No such file or directory$"):
        storage.read(spec, "gone")
