"""Images without a host: bytes in the work item itself, and files below one configured folder."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.answers import Photo

if TYPE_CHECKING:
    from fugue_jobs.work import ImageWork


def local_image(work: ImageWork, root: str | None, max_bytes: int) -> Photo | None:
    """Return the image unless it is at a URL. Raise PhotoFailure too_large, forbidden_path or file_unreadable."""
    if work.data is not None:
        data = work.data
    elif work.path is not None:
        data = _read(work.path, root, max_bytes)
    else:
        return None
    if len(data) > max_bytes:
        raise PhotoFailure("too_large", f"more than {max_bytes} bytes")
    return Photo(data, hashlib.sha256(data).hexdigest())


def _read(path: str, root: str | None, max_bytes: int) -> bytes:
    if root is None:
        raise PhotoFailure("forbidden_path", "a path, but files= names no folder")
    try:
        # Follow links first: a link may lead out of the folder.
        home = Path(root).resolve(strict=True)
        found = (home / path).resolve(strict=True)
        if not found.is_relative_to(home):
            raise PhotoFailure("forbidden_path", "the file is outside the folder of images")
        # Non-blocking, so that a pipe without a writer does not hang.
        handle = os.open(found, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise PhotoFailure("file_unreadable", "not a file")
            return file.read(max_bytes + 1)
    except (OSError, ValueError, RuntimeError) as error:
        told = getattr(error, "strerror", None) or type(error).__name__
        raise PhotoFailure("file_unreadable", f"the file cannot be read: {told}") from None
