"""The result of an erasure in words, for the artifact and the CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cropline.erasure import Erased

_LATER = "by the next poll that cuts something, by maintain, or by the same again"

_NOTHING = "Nothing of them was found here. If something should have been, look at what was asked for."


def erased_lines(erased: Erased, *, dry_run: bool) -> list[str]:
    """Lines about the erasure, the verdict first. They say when there is no receipt yet."""
    what = f"{erased.objects:,} objects and {erased.rows:,} catalogue rows of {erased.images:,} photos"
    nothing = [] if erased.rows or erased.objects or erased.in_work or erased.waits else [_NOTHING]
    if dry_run:
        lines = [f"{what} would go. Nothing was done.", *nothing]
        return [*lines, *([f"{erased.in_work:,} of the photos are in work now."] if erased.in_work else [])]
    if erased.waits:
        return [
            "Another erasure is at work now: nothing was removed yet.",
            f"These photos will not be cropped again. What was made of them is removed after it: {_LATER}.",
        ]
    if erased.receipt is not None:
        return [f"{what} are gone, and these photos will not be cropped again.", *nothing]
    return [
        f"{what} are gone. {erased.in_work:,} more photos are in work: what comes of them is removed when their batch ends.",
        f"The receipt is written then: {_LATER}.",
    ]
