"""Spans of a run reach a real receiver over OTLP; logs and lineage hold the trace's id; a broken collector harms nothing."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from cropline.core.errors import ApiUnavailable
from tests.integration.conftest import Workspace

SECRET = "canary-7f3a-of-traces"


class Receiver:
    """A real HTTP server that decodes what it gets. ``silent``: it answers nothing until the test ends."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.silent = False
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.silent:
                    outer.release.wait(30)
                    return
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.requests.append(ExportTraceServiceRequest.FromString(body))
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                outer.paths.append(self.path)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                """Suppress the log."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    @property
    def spans(self) -> list[Span]:
        parts = [scope for each in self.requests for group in each.resource_spans for scope in group.scope_spans]
        return [span for scope in parts for span in scope.spans]

    @property
    def resource(self) -> dict[str, str]:
        return values(self.requests[0].resource_spans[0].resource.attributes)


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.release.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def log() -> Iterator[list[logging.LogRecord]]:
    """The records of runs, which do not propagate to the root."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    loggers = [logging.getLogger(f"prefect.{kind}") for kind in ("flow_runs", "task_runs")]
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)


def text(log: list[logging.LogRecord]) -> str:
    return "\n".join(record.getMessage() for record in log)


def test_a_runs_steps_and_batches_arrive_as_one_trace(
    workspace: Workspace, receiver: Receiver, log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "not-ours")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    workspace.set(
        OTLP__URL=receiver.url, OTLP__HEADERS=json.dumps({"X-Key": SECRET}), ENVIRONMENT="staging", BATCH__IMAGES="3"
    )
    funnel = workspace.poll()
    spans = receiver.spans
    assert receiver.paths[0] == "/v1/traces"
    assert receiver.headers[0]["x-key"] == SECRET
    assert (receiver.resource["service.name"], receiver.resource["deployment.environment.name"]) == (
        "cropline",
        "staging",
    )

    (root,) = [span for span in spans if not span.parent_span_id]
    assert {span.trace_id for span in spans} == {root.trace_id}
    names = {span.span_id: span.name for span in spans}
    tree = sorted((names.get(span.parent_span_id, ""), span.name) for span in spans)
    batch = [("batch", step) for step in ("check", "commit", "crop")]
    assert tree == sorted(
        [("", "poll"), *[("poll", step) for step in ("poll", "land", "validate", "register", "publish")]]
        + [("poll", "batch"), *batch] * 2
    )
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
    of_batches = [values(span.attributes) for span in spans if span.name == "batch"]
    assert sum(each["cropline.written"] for each in of_batches) == funnel.written > 0
    assert {each["cropline.source"] for each in of_batches} == {"cams"}

    trace = root.trace_id.hex()
    events = (workspace.folder / "output/lineage/events.ndjson").read_text().splitlines()
    tags = [json.loads(line)["run"]["facets"]["tags"]["tags"] for line in events]
    assert all({"key": "otel.trace_id", "value": trace, "source": "PREFECT"} in each for each in tags)
    assert f"trace {trace}" in text(log)
    of_crop = {record.otelSpanID for record in log if getattr(record, "otelTraceID", "") == trace}
    assert {span.span_id.hex() for span in spans if span.name == "crop"} <= of_crop
    assert SECRET not in text(log) + "".join(events)


def test_a_failed_step_says_why_without_secrets(workspace: Workspace, receiver: Receiver) -> None:
    workspace.set(OTLP__URL=receiver.url, API__URL="http://127.0.0.1:1", API__RETRIES="0")
    with pytest.raises(ApiUnavailable):
        workspace.poll()
    failed = {span.name: span.status for span in receiver.spans if span.status.code == Status.STATUS_CODE_ERROR}
    assert set(failed) == {"poll"}
    assert "cannot be reached" in failed["poll"].message
    assert workspace.api.token not in str(receiver.requests)


@pytest.mark.parametrize("how", ["absent", "silent"])
def test_a_collector_that_is_down_costs_a_moment_and_a_warning(
    workspace: Workspace, receiver: Receiver, how: str, log: list[logging.LogRecord], capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.silent = True
    url = "http://127.0.0.1:1/v1/traces" if how == "absent" else receiver.url
    workspace.set(OTLP__URL=url, OTLP__TIMEOUT_S="0.5", OTLP__HEADERS=json.dumps({"X-Key": SECRET}))
    from cropline.pipeline import otlp

    closed: list[float] = []
    close = otlp.OtlpSpans.close

    def timed(spans: otlp.OtlpSpans) -> str | None:
        started = time.monotonic()
        try:
            return close(spans)
        finally:
            closed.append(time.monotonic() - started)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otlp.OtlpSpans, "close", timed)
        assert workspace.poll().written > 0
    assert max(closed) < 3
    warned = [line for line in text(log).splitlines() if "traces: the collector 127.0.0.1" in line]
    assert len(warned) == 1
    told = text(log) + "".join(capfd.readouterr())
    assert SECRET not in told
    assert "Traceback" not in told
