"""No signed URL, token or query string reaches what a run shows or keeps: canaries, looked for in everything that it leaves."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

from tests.integration.conftest import Workspace

FAULTS = ("image_500", "image_truncated", "image_missing", "image_html", "row_inverted_box", "row_file_url")


def readable(path: Path) -> str:
    """A file's text; of a Parquet file its rows, which are compressed."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path, partitioning=None).to_pylist())
    return path.read_bytes().decode("utf-8", "replace")


def prefect_database() -> dict[str, str]:
    """All that the server keeps of a run: states, parameters, logs, artifacts, events."""
    database = Path(urlsplit(PREFECT_SERVER_DATABASE_CONNECTION_URL.value() or "").path)
    return {path.name: readable(path) for path in database.parent.glob(f"{database.name}*")}


def test_canary_secrets_reach_no_row_artifact_event_or_log(workspace: Workspace) -> None:
    api = workspace.api
    listed = api.control.images()
    for fault, row in zip(FAULTS, listed, strict=True):
        api.control.add_fault(fault, image_id=row["id"])
    workspace.set(
        FETCH__TOKEN="canary-fetch-token",
        FETCH__TOKEN_HOST=urlsplit(api.base_url).netloc,
        EXPECTATIONS__MIN_ROWS_FOR_BUDGET="20",
    )
    secrets = {api.token, "canary-fetch-token", *(urlsplit(row["url"]).query.partition("=")[2] for row in listed)}
    assert len(secrets) == 2 + len(listed)
    assert all(len(secret) >= 8 for secret in secrets), "else chance finds them"

    os.environ["PREFECT_LOGGING_LEVEL"] = "DEBUG"
    try:
        ran = workspace.child("import logging; logging.basicConfig(level=10); from flows.poll import poll; poll()")
    finally:
        del os.environ["PREFECT_LOGGING_LEVEL"]
    assert ran.returncode == 0, ran.stderr[-3000:]

    left = {str(path.relative_to(workspace.folder)): path for path in workspace.folder.rglob("*") if path.is_file()}
    kept = {name: readable(path) for name, path in left.items() if not name.startswith("output/manifests/")}
    kept |= prefect_database() | {"stdout": ran.stdout, "stderr": ran.stderr}

    everything = "".join(kept.values())
    for seen in ("http_404", "http_5xx", "truncated", "not_a_picture", "boxes_ordered", "url_scheme"):
        assert seen in everything, "else the faults left nothing to look at"
    database = "".join(prefect_database().values())
    for kind in ("prefect.flow-run.Completed", "http_404", "native: set"):
        assert kind in database, "events, artifacts and logs lie there"
    manifests = "".join(readable(path) for name, path in left.items() if name.startswith("output/manifests/"))
    assert sum(secret in manifests for secret in secrets) >= 5, (
        "the manifest keeps the addresses: else nothing is proven"
    )
    found = [(name, secret) for name, text in kept.items() for secret in secrets if secret in text]
    assert found == []
