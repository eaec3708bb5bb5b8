"""The table of a run's failures: which photo and boxes, why, what to do, and the command that shows it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from cropline.core.failures import FAILURES

_NAMED = 3


def failure_rows(failures: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return one row per photo and reason, for Prefect's table artifact."""
    return [_row(failure) for failure in failures]


def _row(failure: dict[str, Any]) -> dict[str, str]:
    known = FAILURES.get(failure["reason"])
    return {
        # What an operator needs comes first, because the table is wider than the page.
        "reason": failure["reason"],
        "look at it": f"cropline show {shlex.quote(failure['image_id'])}",
        "what to do": known.remedy if known else "",
        "boxes": _boxes(failure["box_ids"]),
        "what happened": failure["detail"] or "",
        "tried again": "yes" if known and known.transient else "no",
        "where": " ".join(part for part in (failure["store_id"], failure["camera_id"]) if part),
        "profile": failure["profile"],
        "image": failure["image_id"],
    }


def _boxes(ids: Sequence[str | None]) -> str:
    named = [box_id or "?" for box_id in ids[:_NAMED]]
    return ", ".join(named) if len(ids) <= _NAMED else f"{', '.join(named)} and {len(ids) - _NAMED:,} more"
