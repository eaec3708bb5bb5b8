"""What upkeep did, in words. Belongs here: the sentence that the artifact and the CLI show."""

from __future__ import annotations

from cropline.catalogue import Maintained


def maintained_verdict(done: Maintained | None) -> str:
    """What upkeep did, in a sentence."""
    if done is None:
        return "There is no catalogue yet."
    if done.dry_run:
        return f"{done.files_before:,} files; {done.files_vacuumed:,} would be deleted. Nothing was done."
    return (
        f"{done.files_before:,} files became {done.files_after:,}, {done.files_vacuumed:,} old ones were deleted; "
        f"the catalogue is at version {done.version:,}."
    )
