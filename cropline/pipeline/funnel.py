"""The counts of one run, from what was polled to what was written, and the check that they reconcile.

Belongs here: numbers and the few crops that a report shows. Does not: how they are shown (report/).
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from cropline.core.errors import NotReconciled

# What a later part of a run replaces, if it has it.
_LATEST = ("manifest", "quarantine", "docs", "sheet", "report", "catalogue_version", "hint")
_NEWEST = 100  # warnings that a run keeps
_FAILURES = 200
_SAMPLE, _WORST = 24, 8


@dataclass(frozen=True)
class EngineUse:
    """Where one batch was cut and why there. Moments are seconds of the Unix clock."""

    kind: str
    reason: str
    partitions: int = 1
    seconds: float = 0.0
    # (came, went) of each Spark executor, as far as Spark says; who has not gone went when the batch ended.
    executors: tuple[tuple[float, float], ...] = ()

    @property
    def executor_seconds(self) -> float:
        """What the batch cost on the cluster: idle time counts, as it does on the bill."""
        return sum(went - came for came, went in self.executors)


@dataclass
class Funnel:
    """What one run did. Images are counted once; boxes once for each profile they were to be cut by."""

    polled: int = 0  # items that the API gave
    repeated: int = 0  # of these, items seen before: the overlap, and the API's own repeats
    joined: int = 0  # items that were put together with others of their photo
    landed: int = 0  # rows of the manifest
    valid: int = 0
    superseded: int = 0  # older versions and repeats of images that the same manifest has newer
    quarantined: int = 0
    new: int = 0  # image and profile: work not seen before
    changed: int = 0  # ... whose image or boxes or recipe changed
    corrected: int = 0  # ... whose metadata alone changed: rows are written anew, nothing is cut
    known: int = 0  # ... already done or waiting
    batches: int = 0
    resumed: int = 0  # of these, batches that an earlier run had begun
    images: int = 0  # in batches
    boxes: int = 0  # in batches: boxes in
    written: int = 0
    failed: int = 0
    skipped: int = 0
    rewritten: int = 0  # of boxes: rows that only got other metadata
    refreshed: int = 0  # photos for which the image API gave a fresh address
    not_refreshed: int = 0  # ... and those for which it gave none
    retrying: int = 0  # of failed: boxes of images that will be tried again
    stayed: int = 0  # of failed: boxes that have a good crop already, which stays
    crop_bytes: int = 0
    seconds: float = 0.0  # spent in crop jobs
    reasons: Counter[str] = field(default_factory=Counter)  # of failed and skipped boxes
    decoders: Counter[str] = field(default_factory=Counter)  # photos by what decoded them, see schemas.CROPS
    broken: Counter[str] = field(default_factory=Counter)  # expectation -> quarantined rows
    hints: dict[str, str] = field(default_factory=dict)  # broken expectation -> values, and the setting to look at
    manifest: str | None = None
    quarantine: str | None = None  # storage keys and addresses of what the run left
    hint: str | None = None  # of a replay that found nothing: what it would have found
    docs: str | None = None  # Data Docs page of this run
    sheet: str | None = None
    report: str | None = None
    catalogue_version: int | None = None
    warnings: list[tuple[str, str]] = field(default_factory=list)  # what is unusual: kind, message
    engines: list[EngineUse] = field(default_factory=list)  # one a batch that was cut here
    samples: list[dict[str, Any]] = field(
        default_factory=list
    )  # rows of written crops for the contact sheet, worst first
    failures: list[dict[str, Any]] = field(default_factory=list)  # the first: image, its box_ids, reason, detail
    throughput: Counter[int] = field(default_factory=Counter)  # boxes done by the second of the Unix clock

    @property
    def nothing_new(self) -> bool:
        return self.landed == 0 and self.batches == 0

    @property
    def crops_per_s(self) -> float:
        return self.written / self.seconds if self.seconds > 0 else 0.0

    def add(self, part: Funnel) -> None:
        """Add what a part of the run came to: one intake, one batch. Nothing else changes a run's counts."""
        for name in (each.name for each in fields(self)):
            mine, more = getattr(self, name), getattr(part, name)
            if name in _LATEST:
                setattr(self, name, mine if more is None else more)
            elif isinstance(mine, dict):  # Counters add up
                mine.update(more)
            else:
                setattr(self, name, mine + more)
        self.warnings = self.warnings[-_NEWEST:]
        self.failures = self.failures[:_FAILURES]
        self.samples = _sampled(self.samples, str(self.boxes))
        # Engines whose workers are elsewhere do not say when a box was done.
        if (emit_nothing := self.boxes - self.throughput.total()) > 0:
            self.throughput[int(time.time())] += emit_nothing

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
    """At most 24 of the rows, a third of them the least sharp, and those first. The seed makes a rerun's sheet the same."""
    ordered = sorted(rows, key=lambda row: (row["sharpness"] is not None, row["sharpness"] or 0.0))
    rest = random.Random(seed).sample(ordered[_WORST:], min(_SAMPLE - _WORST, len(ordered[_WORST:])))  # noqa: S311 - no secret
    return [*ordered[:_WORST], *rest]
