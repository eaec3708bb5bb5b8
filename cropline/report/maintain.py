"""What maintenance did, in words, for the artifact and the CLI."""

from __future__ import annotations

from collections.abc import Sequence

from cropline.catalogue import Maintained
from cropline.upkeep.taken import Taken


def maintained_verdict(done: Maintained | None) -> str:
    """What maintenance did, in one sentence."""
    if done is None:
        return "There is no catalogue yet."
    if done.dry_run:
        return f"{done.files_before:,} files; {done.files_vacuumed:,} would be deleted. Nothing was done."
    return (
        f"{done.files_before:,} files became {done.files_after:,}, {done.files_vacuumed:,} old ones were deleted; "
        f"the catalogue is at version {done.version:,}."
    )


def maintained_table(taken: Sequence[Taken], dry_run: bool) -> str:
    """What was removed, or would be, in Markdown."""
    head = f"| what | {'would go' if dry_run else 'removed'} | MB |\n|---|--:|--:|\n"
    return head + "\n".join(f"| {name} | {count} | {size} |" for name, count, size in taken_rows(taken))


def taken_rows(taken: Sequence[Taken]) -> list[tuple[str, str, str]]:
    """(what, how many, megabytes) as text."""
    return [
        (entry.what, f"{entry.count:,}", "" if entry.bytes is None else f"{entry.bytes / 1e6:,.1f}") for entry in taken
    ]
