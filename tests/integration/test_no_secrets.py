"""A whole run with secrets wherever it may have some: none of them is in anything that it leaves, but in the manifest itself."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client

from cropline.errors import ManifestRejected
from tests.integration.conftest import Workspace
from tests.integration.test_lineage_ends import collecting

LINEAGE_TOKEN = "canary-7f3a-of-lineage"
PHOTO_TOKEN = "canary-7f3a-of-photos"


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".parquet":  # compressed: what a reader sees of it
                yield str(path), json.dumps(pq.read_table(io.BytesIO(data)).to_pylist(), default=str)
            yield str(path), data.decode("latin-1")


def _prefect() -> Iterator[tuple[str, str]]:
    """All that the server keeps and its UI shows."""
    with get_client(sync_client=True) as client:
        for kind, found in (
            ("artifact", client.read_artifacts()),
            ("flow run", client.read_flow_runs()),
            ("task run", client.read_task_runs()),
            ("log", client.read_logs()),
        ):
            for one in found:
                yield kind, one.model_dump_json()


def test_no_secret_is_left_anywhere(workspace: Workspace) -> None:
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
        "manifests": list(_files(output / "manifests")),
        "events": [("collector", json.dumps(event)) for event in collector.accepted],
        "prefect": list(_prefect()),
        "error": [("the rejection", str(rejected.value))],
        "state": list(_files(workspace.folder)),
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
    assert {"artifact", "flow run", "task run"} <= kinds
    assert len(left["events"]) >= 10
