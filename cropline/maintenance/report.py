"""Describes what maintenance did, for the artifact and the CLI."""

from __future__ import annotations

from collections.abc import Sequence

from cropline.catalogue import MaintenanceResult
from cropline.maintenance.result import CleanupResult


def maintenance_verdict(done: MaintenanceResult | None) -> str:
    """Return one sentence about the maintenance of the catalogue."""
    if done is None:
        return "There is no catalogue yet."
    rows = f"{done.duplicates:,} duplicate rows" if done.duplicates else ""
    if done.dry_run:
        also = f", and {rows} would be removed" if rows else ""
        return f"{done.files_before:,} files; {done.files_vacuumed:,} would be deleted{also}. Nothing was done."
    return (
        f"{f'{rows} were removed; ' if rows else ''}"
        f"{done.files_before:,} files became {done.files_after:,}; {done.files_vacuumed:,} old files were deleted; "
        f"the catalogue is at version {done.version:,}."
    )


def maintenance_table(results: Sequence[CleanupResult], dry_run: bool) -> str:
    """Return what was removed, or would be, as a Markdown table."""
    head = f"| what | {'would be removed' if dry_run else 'removed'} | MB |\n|---|--:|--:|\n"
    return head + "\n".join(f"| {name} | {count} | {size} |" for name, count, size in cleanup_rows(results))


def cleanup_rows(results: Sequence[CleanupResult]) -> list[tuple[str, str, str]]:
    """Return rows of (what, how many, megabytes), as text."""
    return [
        (entry.what, f"{entry.count:,}", "" if entry.bytes is None else f"{entry.bytes / 1e6:,.1f}")
        for entry in results
    ]
