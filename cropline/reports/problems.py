"""What went wrong in a run, in lines: by rule and by reason, with counts, an example, and what to look at."""

from __future__ import annotations

from collections.abc import Iterator

from cropline.core.errors import NothingCameThrough
from cropline.core.failures import FAILURES
from cropline.core.scrub import one_line
from cropline.pipeline.funnel import Funnel

_LINES = 5  # of rules, and as many of reasons


def problem_lines(funnel: Funnel) -> list[str]:
    """The most frequent broken rules and reasons, a line each. Boxes that a profile skips are no trouble."""
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
        told = [part for part in (details.get(reason), known.remedy if known else None) if part]
        yield f"failed: {reason} {count:,}{': ' + one_line('; '.join(told), 400) if told else ''}"


def check_came_through(funnel: Funnel) -> None:
    """Raises NothingCameThrough when there was work and nothing good came of it.

    That is: every box of its batches failed; or every row that it judged is bad, and no batch had anything else. A run
    with nothing to do is well, and so is one of which some came through.
    """
    if not _nothing_came_through(funnel):
        return
    lines = problem_lines(funnel)
    if funnel.failed:
        what, line = f"all {funnel.failed:,} boxes failed", next(_failed(funnel), "")
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
