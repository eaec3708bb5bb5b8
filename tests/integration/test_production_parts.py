"""The main job as in production: crops on S3, state in PostgreSQL. Both servers are real, on this machine."""

from __future__ import annotations

from uuid import uuid4

import boto3
import pytest

from tests.contract.state.servers import Postgres
from tests.integration.commands import cropline
from tests.integration.conftest import Workspace


def test_the_main_job_runs_on_s3_and_postgresql(
    workspace: Workspace,
    s3: str,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"crops-{uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket=bucket)
    workspace.set(STORAGE__URL=f"s3://{bucket}/cropline", STORAGE__ENDPOINT=s3, STATE__URL=postgres.fresh())

    funnel = workspace.poll()

    listed = workspace.api.control.images()
    assert funnel.written == sum(len(row["boxes"]) for row in listed)
    rows = workspace.rows()
    stored = {
        entry["Key"].removeprefix("cropline/"): entry["Size"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="cropline/crops/")
        for entry in page["Contents"]
    }
    assert {row["key"]: row["bytes"] for row in rows} == stored
    one = rows[0]
    metadata = client.head_object(Bucket=bucket, Key=f"cropline/{one['key']}")["Metadata"]
    assert metadata == {
        "source": one["source"],
        "image-id": one["image_id"],
        "box-id": one["box_id"],
        "batch": one["batch_id"],
        "fingerprint": one["fingerprint"],
    }
    for command in (["trace"], ["lineage", "--out", str(workspace.folder / "crop.svg")]):
        told = cropline(capsys, *command, f"s3://{bucket}/cropline/{one['key']}")
        assert (told.code, one["batch_id"] in told.out) == (0, True), told

    assert workspace.poll().nothing_new
    assert workspace.end_state()["unpublished"] == 0
    changed = workspace.api.control.change_box(listed[0]["id"])["id"]
    assert workspace.poll().images == 1
    assert len(workspace.rows()) == len(rows)
    assert {row["image_id"] for row in workspace.rows()} >= {changed}
