"""What a crop process is given at its start. It is plain and imports nothing heavy: who starts processes cuts nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cropline.core.crop_options import CONNECTIONS_PER_WORKER

if TYPE_CHECKING:
    from cropline.core.crop_options import FetchOptions, PictureOptions
    from cropline.core.store_spec import StoreSpec

# Photos of at most this many pixels are decoded at once. For larger ones the process asks the parent.
OWN_PIXELS = 16_000_000
Packed = tuple[tuple[str, str, int], ...]
"""(profile, output kind, bytes of a full pack) of each packed profile."""


class Assignment(NamedTuple):
    """What a process receives at its start."""

    store: StoreSpec | None  # None: crops are returned
    fetch: FetchOptions
    pictures: PictureOptions
    packed: Packed = ()
    functions: tuple[tuple[str, bytes], ...] = ()  # pickled functions, by the name that steps use
    files: str | None = None  # the folder below which images may be local files

    def shared(self, size: int) -> Assignment:
        """Return the assignment of one of ``size`` processes: its share of the connections per host, at least one."""
        share = max(1, (self.fetch.connections_per_host or CONNECTIONS_PER_WORKER) // size)
        return self._replace(fetch=replace(self.fetch, connections_per_host=share))
