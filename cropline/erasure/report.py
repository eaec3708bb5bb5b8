"""Describes the result of an erasure, for the artifact and the CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cropline.erasure.erase import ErasureResult

_LATER = "by the next poll that crops something, by maintain, or by the same command again"

_NOTHING = "Nothing of them was found here. If something should have been found, check the selection."


def erasure_lines(result: ErasureResult, *, dry_run: bool) -> list[str]:
    """Return the verdict and what follows from it. While there is no receipt, a line says when it will be written."""
    what = f"{result.objects:,} objects and {result.rows:,} catalogue rows of {result.images:,} photos"
    nothing = [] if result.rows or result.objects or result.in_progress or result.waits else [_NOTHING]
    if dry_run:
        lines = [f"{what} would be removed. Nothing was done.", *nothing]
        return [*lines, *([f"{result.in_progress:,} of the photos are in a batch now."] if result.in_progress else [])]
    if result.waits:
        return [
            "Another erasure is running: nothing was removed yet.",
            f"These photos will not be cropped again. Their crops are removed after that erasure: {_LATER}.",
        ]
    if result.receipt is not None:
        return [f"{what} were removed. These photos will not be cropped again.", *nothing]
    return [
        f"{what} were removed. {result.in_progress:,} more photos are in a batch: their crops are removed when it ends.",
        f"Then the receipt is written: {_LATER}.",
    ]
