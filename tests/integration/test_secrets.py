"""No signed URL, token or query string reaches what a run shows or stores: canaries are looked for in all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.events import EventPage
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventOccurredFilter
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

from cropline.core.errors import ManifestRejected
from tests.integration.conftest import Workspace, prefect_events
from tests.integration.test_lineage_ends import collecting

LINEAGE_TOKEN = "canary-7f3a-of-lineage"
PHOTO_TOKEN = "canary-7f3a-of-photos"
FAULTS = ("image_500", "image_truncated", "image_missing", "image_html", "row_inverted_box", "row_file_url")


def readable(path: Path) -> str:
    """Return a file's text; of a Parquet file also its decompressed rows."""
    text = path.read_bytes().decode("utf-8", "replace")
    return text + str(pq.read_table(path, partitioning=None).to_pylist()) if path.suffix == ".parquet" else text


def files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), readable(path)


def _events_are_stored(ended: str, since: datetime) -> None:
    """Wait for the events of a run, which the server stores later than all else; ``ended``: the run's state."""
    assert prefect_events(f"prefect.flow-run.{ended}", since)
    emit_event("tests.marker", resource={"prefect.resource.id": "tests.marker"})
    assert prefect_events("tests.marker", since), "it comes after the events of task runs"


def prefect_database(ended: str, since: datetime) -> dict[str, str]:
    """Return everything the server stores of a run that ended so: states, parameters, logs, artifacts, events."""
    _events_are_stored(ended, since)
    database = Path(urlsplit(PREFECT_SERVER_DATABASE_CONNECTION_URL.value() or "").path)
    return {path.name: readable(path) for path in database.parent.glob(f"{database.name}*")}


def test_canary_secrets_reach_no_row_artifact_event_or_log(workspace: Workspace, logs_and_task_events: None) -> None:
    api = workspace.api
    api.control.advance(photos=1)  # one good photo of seven, so that the run succeeds
    listed = api.control.images()
    for fault, row in zip(FAULTS, listed, strict=False):
        api.control.add_fault(fault, image_id=row["id"])
    workspace.set(
        FETCH__TOKEN="canary-fetch-token",
        FETCH__TOKEN_HOST=urlsplit(api.base_url).netloc,
        EXPECTATIONS__MIN_ROWS_FOR_BUDGET="20",
    )
    secrets = {api.token, "canary-fetch-token", *(urlsplit(row["url"]).query.partition("=")[2] for row in listed)}
    assert len(secrets) == 2 + len(listed)
    assert all(len(secret) >= 8 for secret in secrets), "else chance finds them"

    began = datetime.now(UTC)
    os.environ["PREFECT_LOGGING_LEVEL"] = "DEBUG"
    try:  # in a fork; the run below is a new Python
        ran = workspace.run("import logging; logging.basicConfig(level=10); from flows.poll import poll; poll()")
    finally:
        del os.environ["PREFECT_LOGGING_LEVEL"]
    assert ran.returncode == 0, ran.stderr[-3000:]

    left = {str(path.relative_to(workspace.folder)): path for path in workspace.folder.rglob("*") if path.is_file()}
    kept = {name: readable(path) for name, path in left.items() if not name.startswith("output/manifests/")}
    stored = prefect_database("Completed", began)
    kept |= stored | {"stdout": ran.stdout, "stderr": ran.stderr}

    everything = "".join(kept.values())
    for seen in ("http_404", "http_5xx", "truncated", "not_a_picture", "boxes_ordered", "url_scheme"):
        assert seen in everything, "else the faults left nothing to look at"
    database = "".join(stored.values())
    for kind in ("prefect.flow-run.Completed", "http_404", "| native | 1 batch"):
        assert kind in database, "events, artifacts and logs lie there"
    manifests = "".join(readable(path) for name, path in left.items() if name.startswith("output/manifests/"))
    assert sum(secret in manifests for secret in secrets) >= 5, (
        "the manifest keeps the addresses: else nothing is proven"
    )
    found = [(name, secret) for name, text in kept.items() for secret in secrets if secret in text]
    assert found == []


def prefect_answers(since: datetime) -> Iterator[tuple[str, str]]:
    """Yield everything that the server stores and its UI shows of runs, the last of which failed."""
    _events_are_stored("Failed", since)
    happened = EventFilter(occurred=EventOccurredFilter(since=since, until=datetime.now(UTC) + timedelta(minutes=5)))
    with get_client(sync_client=True) as client:
        page: EventPage | None = client.read_events(happened, limit=50)
        while page:
            for event in page.events:
                yield event.event, event.model_dump_json()
            page = page.get_next_page_sync(client)
        for kind, found in (
            ("artifact", client.read_artifacts()),
            ("flow run", client.read_flow_runs()),
            ("log", client.read_logs()),
        ):
            for one in found:
                yield kind, one.model_dump_json()


def test_a_key_in_the_listings_query_is_left_nowhere_when_the_api_refuses(
    workspace: Workspace, logs_and_task_events: None
) -> None:
    keys = ("canary-81c2-of-the-path", "canary-81c2-of-params", "canary-81c2-of-auth", "canary-81c2-of-headers")
    workspace.set(
        API__IMAGES_PATH=f"/v1/images?api_key={keys[0]}",
        API__PARAMS=json.dumps({"key": keys[1]}),
        API__AUTH__KIND="query",
        API__TOKEN=keys[2],
        API__HEADERS=json.dumps({"X-Key": keys[3]}),
    )
    began = datetime.now(UTC)
    os.environ["PREFECT_LOGGING_LEVEL"] = "DEBUG"
    try:
        ran = workspace.child("import logging; logging.basicConfig(level=10); from flows.poll import poll; poll()")
    finally:
        del os.environ["PREFECT_LOGGING_LEVEL"]
    assert ran.returncode == 1
    assert "/v1/images answers 401; check CROPLINE_API__AUTH__" in ran.stderr
    stored = prefect_database("Failed", began)
    kept = {**stored, **dict(files(workspace.folder)), "stdout": ran.stdout, "stderr": ran.stderr}
    assert "/v1/images answers 401" in "".join(stored.values()), "the error lies there"
    assert [(name, key) for name, text in kept.items() for key in keys if key in text] == []


def test_no_secret_is_left_anywhere(workspace: Workspace, logs_and_task_events: None) -> None:
    listed = workspace.api.control.images()
    signatures = {value for row in listed for _, value in parse_qsl(urlsplit(row["url"]).query)}
    secrets = {workspace.api.token, LINEAGE_TOKEN, PHOTO_TOKEN, *signatures}
    assert len(signatures) == len(listed)
    assert min(map(len, secrets)) > 8
    ids = sorted(row["id"] for row in listed)
    for fault, image_id in zip(
        ("image_missing", "image_500", "row_inverted_box", "row_negative_bytes"), ids, strict=False
    ):
        workspace.api.control.add_fault(fault, image_id=image_id)
    host = urlsplit(workspace.api.base_url).netloc
    began = datetime.now(UTC)
    with collecting() as collector:
        workspace.set(FETCH__TOKEN=PHOTO_TOKEN, FETCH__TOKEN_HOST=host)
        workspace.set(LINEAGE__TRANSPORT="composite", LINEAGE__TRANSPORTS='["file", "http"]')
        workspace.set(LINEAGE__URL=collector.url, LINEAGE__TOKEN=LINEAGE_TOKEN)
        funnel = workspace.poll()
        assert (funnel.quarantined, funnel.failed > 0, funnel.written > 0) == (2, True, True)
        workspace.set(EXPECTATIONS__MIN_ROWS_FOR_BUDGET="1", EXPECTATIONS__MAX_QUARANTINED_FRACTION="0")
        workspace.api.control.change_box(ids[2])
        with pytest.raises(ManifestRejected) as rejected:
            workspace.poll()
    output = workspace.folder / "output"
    left = {
        "manifests": list(files(output / "manifests")),
        "events": [("collector", json.dumps(event)) for event in collector.accepted],
        "prefect": list(prefect_answers(began)),
        "error": [("the rejection", str(rejected.value))],
        "state": list(files(workspace.folder)),
    }
    holders = {
        (place, secret)
        for place, text in [pair for pairs in left.values() for pair in pairs]
        for secret in secrets
        if secret in text and not place.startswith(str(output / "manifests"))
    }
    assert holders == set()
    whole = "".join(text for _, text in left["manifests"])
    assert all(signature in whole for signature in signatures), "the manifest keeps them: else nothing is proven here"
    kept = [place for place, _ in left["state"]]
    for folder in ("quarantine", "docs", "reports", "catalogue", "lineage", "drift"):
        assert any(f"/output/{folder}/" in place for place in kept), (
            f"nothing in {folder}: the test looked at too little"
        )
    kinds = {kind for kind, _ in left["prefect"]}
    assert {"artifact", "flow run", "prefect.task-run.Completed"} <= kinds
    assert len(left["events"]) >= 10
