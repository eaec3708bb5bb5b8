"""The counts of one run, from what was polled to what was written, and the check that they reconcile.

Belongs here: numbers and the few crops that a report shows. Does not: how they are shown (report/).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cropline.errors import NotReconciled

_INTAKE = ("polled", "repeated", "joined", "landed", "valid", "quarantined", "new", "changed", "known")
_NEWEST = 100  # warnings that a run of many polls keeps


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
    quarantined: int = 0
    new: int = 0  # image and profile: work not seen before
    changed: int = 0  # ... whose image or boxes or recipe changed
    known: int = 0  # ... already done or waiting
    batches: int = 0
    resumed: int = 0  # of these, batches that an earlier run had begun
    images: int = 0  # in batches
    boxes: int = 0  # in batches: boxes in
    written: int = 0
    failed: int = 0
    skipped: int = 0
    retrying: int = 0  # of failed: boxes of images that will be tried again
    crop_bytes: int = 0
    seconds: float = 0.0  # spent in crop jobs
    reasons: Counter[str] = field(default_factory=Counter)  # of failed and skipped boxes
    decoders: Counter[str] = field(default_factory=Counter)  # photos by what decoded them, see schemas.CROPS
    broken: Counter[str] = field(default_factory=Counter)  # expectation -> quarantined rows
    manifest: str | None = None
    quarantine: str | None = None  # storage keys and addresses of what the run left
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
    pace: Counter[int] = field(default_factory=Counter)  # boxes done by the second of the Unix clock

    @property
    def nothing_new(self) -> bool:
        return self.landed == 0 and self.batches == 0

    @property
    def crops_per_s(self) -> float:
        return self.written / self.seconds if self.seconds > 0 else 0.0

    def add_intake(self, part: Funnel) -> None:
        """Add what one of several polls of a run took in, from the API to the state table."""
        for name in _INTAKE:
            setattr(self, name, getattr(self, name) + getattr(part, name))
        for name in ("manifest", "quarantine", "docs"):
            setattr(self, name, getattr(part, name) or getattr(self, name))
        self.broken += part.broken
        self.warnings = [*self.warnings, *part.warnings][-_NEWEST:]

    def reconcile(self) -> None:
        """Raise NotReconciled unless every item and every box is accounted for."""
        equations = {
            "polled = repeated + joined + landed": (self.polled, self.repeated + self.joined + self.landed),
            "landed = valid + quarantined": (self.landed, self.valid + self.quarantined),
            "boxes = written + failed + skipped": (self.boxes, self.written + self.failed + self.skipped),
            "failed + skipped = reasons": (self.failed + self.skipped, self.reasons.total()),
        }
        off = [f"{text}: {left} != {right}" for text, (left, right) in equations.items() if left != right]
        if off:
            raise NotReconciled("; ".join(off))
