"""Azurite, Microsoft's emulator of Azure Blob Storage, run by the tests. ``make test`` installs it into .venv."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
import requests

ACCOUNT = "devstoreaccount1"
# The key of every Azurite: https://github.com/Azure/Azurite#default-storage-account
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
MAIN = Path(sys.prefix, "azurite", "node_modules", "azurite", "dist", "src", "blob", "main.js")
_START_S = 60
_VERSION = "2021-12-02"


@dataclass(frozen=True)
class Azurite:
    """A running Azurite. ``url`` ends with the account's name, as its endpoints do."""

    url: str

    def create(self, container: str) -> None:
        """Create a container."""
        date = formatdate(usegmt=True)
        path = f"{urlsplit(self.url).path}/{container}"
        told = f"x-ms-date:{date}\nx-ms-version:{_VERSION}\n/{ACCOUNT}{path}\nrestype:container"
        signature = _sign("PUT" + "\n" * 12 + told)
        headers = {"x-ms-date": date, "x-ms-version": _VERSION, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}
        requests.put(f"{self.url}/{container}?restype=container", headers=headers, timeout=30).raise_for_status()

    def sas(self, minutes: float = 60) -> str:
        """Return a signature for everything the tests do, as AZURE_STORAGE_SAS_KEY holds it."""
        form, now = "%Y-%m-%dT%H:%M:%SZ", datetime.now(UTC)
        start, end = (now - timedelta(hours=2)).strftime(form), (now + timedelta(minutes=minutes)).strftime(form)
        told = [ACCOUNT, "rwdlac", "b", "sco", start, end, "", "https,http", _VERSION, "", ""]
        signed = {"sv": _VERSION, "ss": "b", "srt": "sco", "sp": "rwdlac", "st": start, "se": end, "spr": "https,http"}
        return urlencode(signed | {"sig": _sign("\n".join(told))})


def _sign(text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()


@contextmanager
def azurite() -> Iterator[Azurite]:
    """Run Azurite for the duration of the block. Without it the tests are skipped; in CI they fail."""
    node = shutil.which("node")
    if node is None or not MAIN.is_file():
        missing = "Azurite is not installed: `make test` does it, and needs node and npm"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--inMemoryPersistence",
        "--disableTelemetry",
        "--silent",
    ]
    process = subprocess.Popen([node, str(MAIN), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield Azurite(f"http://127.0.0.1:{port}/{ACCOUNT}")
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"Azurite does not answer (status {process.poll()})")
