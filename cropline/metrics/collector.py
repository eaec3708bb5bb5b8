"""The figures as Prometheus metrics. docs/monitoring.md lists them; a test compares the two.

Labels have few values: sources and deployments come from the settings, states and reasons from fixed lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from cropline.core.errors import CroplineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.metrics_core import Metric

    from cropline.metrics.figures import Figures, SlowFigures
    from cropline.state import StateMetrics

_Row = tuple[tuple[str, ...], float]


class CroplineCollector(Collector):
    """Reads the figures at each scrape. When the state cannot be read, ``cropline_up`` is 0 and the rest is left out."""

    def __init__(self, figures: Figures, on_error: Callable[[CroplineError], None]) -> None:
        self._figures, self._on_error = figures, on_error

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the registry then reads no figures when the collector is added."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now."""
        yield InfoMetricFamily("cropline_build", "The exporter's version.", {"version": version("cropline")})
        try:
            now = self._figures.fast()
        except CroplineError as error:
            self._on_error(error)
            yield _gauge("up", "1: the state database could be read.", 0)
            return
        yield _gauge("up", "1: the state database could be read.", 1)
        yield from _work(now)
        yield from _window(now, self._figures.window.total_seconds())
        yield from _waiting(now)
        yield from _flow_ends(now)
        slow = self._figures.slow()
        if slow is not None:
            yield from _slow(slow, now.at)


def _work(now: StateMetrics) -> Iterator[Metric]:
    yield _labelled(
        "work_items",
        "Work items (a photo and a profile) by source and state.",
        ("source", "state"),
        [((source, state), count) for source, state, count in now.work_items],
    )
    yield _labelled(
        "moved_out_photos",
        "Photos that ended long ago and left the state table; the catalogue knows them.",
        ("source",),
        [((source,), count) for source, count in now.moved_out],
    )
    age = (now.at - now.oldest_pending_since).total_seconds() if now.oldest_pending_since else 0
    yield _gauge("oldest_pending_seconds", "How long the oldest pending work item has waited; 0: none waits.", age)
    yield _labelled(
        "cursor_lag_seconds",
        "Now minus the newest updated_at of the source that was registered.",
        ("source",),
        [((source,), (now.at - cursor).total_seconds()) for source, cursor in now.cursors if cursor],
    )
    yield _gauge("open_batches", "Batches that are claimed and not committed.", now.open_batches)
    yield _gauge("stale_batches", "Open batches whose lease has expired; the next run resumes them.", now.stale_batches)
    yield _gauge(
        "unknown_batches",
        "1: the catalogue holds batches that this state database does not know.",
        float(now.unknown_batches),
    )


def _window(now: StateMetrics, seconds: float) -> Iterator[Metric]:
    yield _gauge("window_seconds", "The time over which the cropline_window metrics add up committed batches.", seconds)
    crops = [
        ((each.source, status), count)
        for each in now.cropped
        for status, count in (("written", each.written), ("failed", each.failed), ("skipped", each.skipped))
    ]
    yield _labelled("window_crops", "Crops of the window's batches by status.", ("source", "status"), crops)
    for name, text in (
        ("images", "Photos of the window's batches."),
        ("batches", "Batches committed in the window."),
        ("batch_seconds", "Seconds from claim to commit, summed over the window's batches."),
    ):
        field = "seconds" if name == "batch_seconds" else name
        rows = [((each.source,), float(getattr(each, field))) for each in now.cropped]
        yield _labelled(f"window_{name}", text, ("source",), rows)


def _waiting(now: StateMetrics) -> Iterator[Metric]:
    yield _gauge("lineage_events_waiting", "Lineage events that are not published yet.", now.events_waiting)
    age = (now.at - now.oldest_event_at).total_seconds() if now.oldest_event_at else 0
    yield _gauge("lineage_oldest_event_seconds", "How long the oldest of them has waited; 0: none waits.", age)
    yield _gauge("erasures_open", "Erasures that have begun and not ended.", now.erasures_open)


def _flow_ends(now: StateMetrics) -> Iterator[Metric]:
    """``deployment`` is empty for runs that were started by hand."""
    labels = ("flow", "deployment")
    ends = [((each.flow, each.deployment), each.ended_at.timestamp()) for each in now.flow_ends]
    good = [
        ((each.flow, each.deployment), each.completed_at.timestamp()) for each in now.flow_ends if each.completed_at
    ]
    failed = [((each.flow, each.deployment), float(each.status == "FAIL")) for each in now.flow_ends]
    yield _labelled("flow_last_end_timestamp_seconds", "When a run last ended, in any way.", labels, ends)
    yield _labelled("flow_last_success_timestamp_seconds", "When a run last ended as complete.", labels, good)
    yield _labelled("flow_last_failed", "1: the last run that ended had failed.", labels, failed)


def _slow(slow: SlowFigures, now: datetime) -> Iterator[Metric]:
    yield _gauge("slow_figures_age_seconds", "How old the metrics below are.", (now - slow.at).total_seconds())
    yield _labelled(
        "failed_work_items",
        "Work items that ended badly, by state and reason code; the 100 most frequent.",
        ("state", "reason"),
        [((each.state, each.reason), each.works) for each in slow.reasons],
    )
    if slow.catalogue is not None:
        yield _gauge("catalogue_version", "The newest version of the catalogue table.", slow.catalogue.version)
        yield _gauge("catalogue_files", "Data files of the newest version.", slow.catalogue.files)
        yield _gauge("catalogue_bytes", "Bytes of these files.", slow.catalogue.bytes)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"cropline_{name}", text, value=value)


def _labelled(name: str, text: str, labels: tuple[str, ...], rows: Iterable[_Row]) -> Metric:
    family = GaugeMetricFamily(f"cropline_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
