"""The counts of one run, from polled items to written crops, and the check that they reconcile."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from cropline.core.errors import NotReconciled

# A later part of a run replaces these values; all other fields add up.
_LATEST = ("manifest", "quarantine", "docs", "sheet", "report", "catalogue_version", "hint")
_NEWEST = 100  # warnings that a run keeps
_FAILURES = 200
_SAMPLE, _WORST = 24, 8


@dataclass(frozen=True)
class EngineUse:
    """The engine that cut one batch, and why it was chosen. Times are seconds of the Unix clock."""

    kind: str
    reason: str
    partitions: int = 1
    seconds: float = 0.0
    # (start, end) of each Spark executor, as far as Spark reports them. One without an end ended with the batch.
    executors: tuple[tuple[float, float], ...] = ()

    @property
    def executor_seconds(self) -> float:
        """Executor time in seconds, idle time included, as a cluster bills it."""
        return sum(went - came for came, went in self.executors)


@dataclass
class Funnel:
    """What one run did. Each image counts once; each box counts once per profile."""

    polled: int = 0  # items that the API returned
    repeated: int = 0  # of these, items seen before: from the overlap, or repeated by the API
    joined: int = 0  # items that were merged with others of the same photo
    deleted: int = 0  # photos that their source announced as deleted, and that were erased or marked now
    landed: int = 0  # rows of the manifest
    valid: int = 0
    superseded: int = 0  # rows for which the same manifest has a newer version or a repeat
    quarantined: int = 0
    new: int = 0  # work items (image and profile) not seen before
    changed: int = 0  # ... whose image, boxes or recipe changed
    corrected: int = 0  # ... of which only the metadata changed: rows are rewritten, nothing is cut
    known: int = 0  # ... already done or pending
    batches: int = 0
    resumed: int = 0  # of these, batches that an earlier run began
    images: int = 0  # in batches
    boxes: int = 0  # in batches: boxes times profiles
    written: int = 0
    failed: int = 0
    skipped: int = 0
    rewritten: int = 0  # of boxes: rows of which only the metadata changed
    refreshed: int = 0  # photos for which the image API returned a new URL
    not_refreshed: int = 0  # ... and those for which it returned none
    retrying: int = 0  # of failed: boxes of images that will be tried again
    stayed: int = 0  # of failed: boxes that keep their earlier good crop
    crop_bytes: int = 0
    seconds: float = 0.0  # spent in crop jobs
    reasons: Counter[str] = field(default_factory=Counter)  # of failed and skipped boxes
    decoders: Counter[str] = field(default_factory=Counter)  # photos by decoder, see schemas.CROPS
    broken: Counter[str] = field(default_factory=Counter)  # expectation -> quarantined rows
    hints: dict[str, str] = field(default_factory=dict)  # broken expectation -> its values and the setting to check
    manifest: str | None = None
    quarantine: str | None = None  # storage key
    hint: str | None = None  # of a replay that found nothing: what would have found something
    docs: str | None = None  # Data Docs page of this run
    sheet: str | None = None  # storage key of the contact sheet
    report: str | None = None  # storage key
    catalogue_version: int | None = None
    warnings: list[tuple[str, str]] = field(default_factory=list)  # of what is unusual: kind, message
    engines: list[EngineUse] = field(default_factory=list)  # one per batch that was cut here
    samples: list[dict[str, Any]] = field(
        default_factory=list
    )  # rows of written crops for the contact sheet, worst first
    failures: list[dict[str, Any]] = field(default_factory=list)  # the first ones: image, its box_ids, reason, detail
    throughput: Counter[int] = field(default_factory=Counter)  # second of the Unix clock -> boxes done in it

    @property
    def nothing_new(self) -> bool:
        return self.landed == 0 and self.batches == 0 and self.deleted == 0

    @property
    def crops_per_s(self) -> float:
        return self.written / self.seconds if self.seconds > 0 else 0.0

    def add(self, part: Funnel) -> None:
        """Add the counts of one part of the run: an intake or a batch. Nothing else changes a run's counts."""
        for name in (each.name for each in fields(self)):
            mine, more = getattr(self, name), getattr(part, name)
            if name in _LATEST:
                setattr(self, name, mine if more is None else more)
            elif isinstance(mine, dict):  # a Counter's update adds
                mine.update(more)
            else:
                setattr(self, name, mine + more)
        self.warnings = self.warnings[-_NEWEST:]
        self.failures = self.failures[:_FAILURES]
        self.samples = _sampled(self.samples, str(self.boxes))
        # Engines with remote workers do not report when each box was done.
        if (untimed := self.boxes - self.throughput.total()) > 0:
            self.throughput[int(time.time())] += untimed

    def reconcile(self) -> None:
        """Raise NotReconciled unless every item and every box is accounted for."""
        equations = {
            "polled = repeated + joined + landed": (self.polled, self.repeated + self.joined + self.landed),
            "landed = valid + superseded + quarantined": (self.landed, self.valid + self.superseded + self.quarantined),
            "boxes = written + failed + skipped": (self.boxes, self.written + self.failed + self.skipped),
            "failed + skipped = reasons": (self.failed + self.skipped, self.reasons.total()),
        }
        off = [f"{text}: {left} != {right}" for text, (left, right) in equations.items() if left != right]
        if off:
            raise NotReconciled("; ".join(off))


def _sampled(rows: list[dict[str, Any]], seed: str) -> list[dict[str, Any]]:
    """Return at most 24 rows, the least sharp third first. The seed gives a rerun the same contact sheet."""
    ordered = sorted(rows, key=lambda row: (row["sharpness"] is not None, row["sharpness"] or 0.0))
    rest = random.Random(seed).sample(ordered[_WORST:], min(_SAMPLE - _WORST, len(ordered[_WORST:])))  # noqa: S311 - no secret
    return [*ordered[:_WORST], *rest]
