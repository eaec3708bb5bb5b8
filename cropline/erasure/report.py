"""The result of an erasure in words, for the artifact and the CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cropline.erasure import ErasureResult

_LATER = "by the next poll that cuts something, by maintain, or by the same again"

_NOTHING = "Nothing of them was found here. If something should have been, look at what was asked for."


def erasure_lines(result: ErasureResult, *, dry_run: bool) -> list[str]:
    """The verdict first. Of the receipt it says when there is none yet."""
    what = f"{result.objects:,} objects and {result.rows:,} catalogue rows of {result.images:,} photos"
    nothing = [] if result.rows or result.objects or result.in_progress or result.waits else [_NOTHING]
    if dry_run:
        lines = [f"{what} would go. Nothing was done.", *nothing]
        return [*lines, *([f"{result.in_progress:,} of the photos are in work now."] if result.in_progress else [])]
    if result.waits:
        return [
            "Another erasure is at work now: nothing was removed yet.",
            f"These photos will not be cropped again. What was made of them is removed after it: {_LATER}.",
        ]
    if result.receipt is not None:
        return [f"{what} are gone, and these photos will not be cropped again.", *nothing]
    return [
        f"{what} are gone. {result.in_progress:,} more photos are in work: what comes of them is removed when their batch ends.",
        f"The receipt is written then: {_LATER}.",
    ]
