"""Lines that say what went wrong in a run: rules and reasons with counts, an example, and what to check."""

from __future__ import annotations

from collections.abc import Iterator

from cropline.core.errors import NothingCameThrough
from cropline.core.failures import FAILURES
from cropline.core.scrub import one_line
from cropline.pipeline.funnel import Funnel

_LINES = 5  # of rules, and as many of reasons


def problem_lines(funnel: Funnel) -> list[str]:
    """Return one line per frequent broken rule and failure reason. Boxes that a profile skips are left out."""
    return [*_quarantined(funnel), *_failed(funnel)]


def _quarantined(funnel: Funnel) -> Iterator[str]:
    for rule, count in funnel.broken.most_common(_LINES):
        hint = funnel.hints.get(rule)
        yield f"quarantined: {rule} {count:,}{f': {hint}' if hint else ''}"


def _failed(funnel: Funnel) -> Iterator[str]:
    details = {failure["reason"]: failure["detail"] for failure in reversed(funnel.failures)}
    failed = [(reason, count) for reason, count in funnel.reasons.most_common() if reason != "below_min_side"]
    for reason, count in failed[:_LINES]:
        known = FAILURES.get(reason)
        parts = [part for part in (details.get(reason), known.remedy if known else None) if part]
        yield f"failed: {reason} {count:,}{': ' + one_line('; '.join(parts), 400) if parts else ''}"


def check_came_through(funnel: Funnel) -> None:
    """Raise NothingCameThrough when a run had work and all of it was bad or failed.

    That is: every box of its batches failed; or every row is quarantined and the run had no other work.
    """
    if not _nothing_came_through(funnel):
        return
    lines = problem_lines(funnel)
    if funnel.failed:
        kept = f" ({funnel.stayed:,} keep their good crop)" if funnel.stayed else ""
        what, line = f"all {funnel.failed:,} boxes failed{kept}", next(_failed(funnel), "")
    else:
        what, line = f"all {funnel.quarantined:,} rows are bad", next(_quarantined(funnel), "")
    error = NothingCameThrough(f"{what}; most of them {line.partition(': ')[2]}")
    for line in lines:
        error.add_note(line)
    raise error


def _nothing_came_through(funnel: Funnel) -> bool:
    if funnel.written or funnel.skipped or (funnel.images and not funnel.boxes):
        return False
    return funnel.failed > 0 or (funnel.quarantined > 0 and not funnel.valid)
