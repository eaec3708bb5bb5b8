"""Sends the spans of a run to a collector, by OTLP over HTTP (cropline[otlp]).

The trace's id is the flow run's id, so that logs, lineage and traces find each other. The collector gets spans in the
background; at the end of a run it has a short time for the rest. All settings are given, so that no variable OTEL_...
changes what is sent. OpenTelemetry's current context stays as it is: Prefect's own spans do not mix with ours.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from cropline.config.otlp import OtlpSettings
from cropline.core.scrub import one_line
from cropline.core.spans import Value

_EVERY_MS, _QUEUE, _BATCH, _LONGEST = 5_000, 8_192, 512, 500
# They log each failure with the collector's address and a stack; _Counting says it once.
_LOUD = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")

_current: ContextVar[trace.Span | None] = ContextVar("cropline_span", default=None)


class _OfFlowRun(RandomIdGenerator):
    """Ids of the spans of one flow run."""

    def __init__(self, flow_run_id: str) -> None:
        self._trace_id = UUID(flow_run_id).int

    def generate_trace_id(self) -> int:
        return self._trace_id


class _Counting(SpanExporter):
    """Counts what the collector did not take."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _OtlpSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, **values: Value) -> None:
        self._span.set_attributes(_attributes(values))


class OtlpSpans:
    """The spans of one flow run. Several threads may open spans; a span's parent is that of its context."""

    def __init__(self, settings: OtlpSettings, flow_run_id: str, attributes: dict[str, Value]) -> None:
        for name in _LOUD:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._settings = settings
        self._exporter = _Counting(_exporter(settings))
        resource = Resource(
            _attributes({"service.name": settings.service, "service.version": version("cropline"), **attributes})
        )
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            id_generator=_OfFlowRun(flow_run_id),
            span_limits=SpanLimits(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=_QUEUE,
                schedule_delay_millis=_EVERY_MS,
                max_export_batch_size=_BATCH,
                export_timeout_millis=settings.timeout_s * 1_000,
            )
        )
        self._tracer = self._provider.get_tracer("cropline", version("cropline"))
        self.trace_id = UUID(flow_run_id).hex
        self._records = logging.getLogRecordFactory()
        logging.setLogRecordFactory(self._with_ids)

    @contextmanager
    def span(self, name: str, **values: Value) -> Iterator[_OtlpSpan]:
        """A part of the run. Attributes begin with ``cropline.``. An error is noted in one scrubbed line."""
        parent = _current.get()
        context = None if parent is None else trace.set_span_in_context(parent)
        span = self._tracer.start_span(
            name, context=context, attributes=_attributes(values), record_exception=False, set_status_on_exception=False
        )
        token = _current.set(span)
        try:
            yield _OtlpSpan(span)
        except BaseException as error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, one_line(f"{type(error).__name__}: {error}")))
            raise
        finally:
            _current.reset(token)
            span.end()

    def close(self) -> str | None:
        """Send the remaining spans in another thread, and wait a limited time: the library's own limit covers only a part."""
        if logging.getLogRecordFactory() == self._with_ids:
            logging.setLogRecordFactory(self._records)
        sending = threading.Thread(target=self._provider.shutdown, name="cropline-traces", daemon=True)
        sending.start()
        sending.join(self._settings.timeout_s)
        where = urlsplit(self._settings.url).netloc
        if sending.is_alive():
            return f"the collector {where} did not take the rest of the spans in {self._settings.timeout_s:g} s"
        return f"the collector {where} did not take {self._exporter.lost} spans" if self._exporter.lost else None

    def _with_ids(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """A log record with the ids, under the names that OpenTelemetry's own instrumentation uses."""
        record = self._records(*args, **kwargs)
        span = _current.get()
        record.otelTraceID = self.trace_id
        record.otelSpanID = trace.format_span_id(span.get_span_context().span_id) if span else "0"
        return record


def _exporter(settings: OtlpSettings) -> OTLPSpanExporter:
    session = requests.Session()
    session.trust_env = False
    if settings.ca_file is not None:
        session.verify = str(settings.ca_file)
    return OTLPSpanExporter(
        endpoint=settings.url,
        headers={name: value.get_secret_value() for name, value in settings.headers.items()}
        or {"User-Agent": "cropline"},
        timeout=settings.timeout_s,
        compression=Compression.Gzip,
        session=session,
    )


def _attributes(values: dict[str, Value]) -> dict[str, str | int | float | bool]:
    named = {name if "." in name else f"cropline.{name}": value for name, value in values.items() if value is not None}
    return {name: one_line(value, _LONGEST) if isinstance(value, str) else value for name, value in named.items()}
