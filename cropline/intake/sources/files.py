"""A source of files: every new or rewritten file is read, whatever its time says.

What was read is remembered by name and version, so neither a late file nor a rewritten one is missed. A file that
cannot be read is a problem of the run; the others are read, and it is tried again by the next poll.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, cast

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiRefused, StorageError
from cropline.core.scrub import one_line
from cropline.intake.sources.base import Answer, Memory, Page
from cropline.intake.sources.file_listing import File, Place, SpecOf, matching, place_of
from cropline.intake.sources.formats.broken import FileError
from cropline.intake.sources.formats.documents import read_coco, read_items, read_label_studio
from cropline.intake.sources.formats.tables import read_csv, read_json_lines, read_parquet
from cropline.intake.stamps import stamp

Reader = Callable[[BinaryIO, ApiSettings], Generator[Any, None, None]]

UNREADABLE = (FileError, StorageError, OSError, EOFError, zlib.error)
"""The errors of one file that cannot be read."""

_AT_ONCE = 1_000
READERS: dict[str, Reader] = {
    "csv": read_csv,
    "jsonl": read_json_lines,
    "parquet": read_parquet,
    "json": read_items,
    "coco": read_coco,
    "label_studio": read_label_studio,
}
_ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class FilesSource:
    """The items of all files that the address names. ``memory`` None: of every file."""

    by_time = False
    finds = False
    notes: Sequence[str] = ()

    def __init__(self, api: ApiSettings, memory: Memory | None, spec_of: SpecOf) -> None:
        self._api, self._memory = api, memory
        self._place = place_of(api.url, spec_of)
        self._problems: list[str] = []

    @property
    def problems(self) -> Sequence[str]:
        return self._problems

    def items(self, image_ids: Sequence[str]) -> Iterator[Answer]:
        raise NotImplementedError

    def pages(self, since: str) -> Generator[Page, None, None]:
        """Yield the items of unread files, oldest file first; without memory, of files written since a time.

        Raise ApiRefused when the folder does not exist or holds no such file, ApiUnavailable when the store does not
        list its files.
        """
        items: list[Any] = []
        read: dict[str, str] = {}
        begins = True
        for file in self._unread(since):
            try:
                with closing(self._items_of(file)) as found:
                    for item in found:
                        items.append(item)
                        if len(items) >= self._api.page_size:
                            yield Page(items, begins, read)
                            items, read, begins = [], {}, False
                read[file.name] = file.version
            except UNREADABLE as error:
                self._problems.append(one_line(f"{file.name}: {why_not(error)}"))
        if items or read:
            yield Page(items, begins, read)

    def _unread(self, since: str) -> list[File]:
        earliest = datetime.fromisoformat(self._api.start if self._memory is not None else since)
        earliest = earliest.replace(tzinfo=earliest.tzinfo or UTC)
        wanted: list[File] = []
        listed = 0
        files = self._files()
        while some := list(islice(files, _AT_ONCE)):
            listed += len(some)
            new = [file for file in some if file.modified >= earliest]
            if self._memory is not None:
                unread = self._memory.unread({file.name: file.version for file in new})
                new = [file for file in new if file.name in unread]
            wanted += new
        if not listed and self._memory is None:
            raise ApiRefused(f"CROPLINE_API__URL: no file matches {self._api.place}")
        return sorted(wanted, key=lambda file: (file.modified, file.name))

    def _files(self) -> Iterator[File]:
        for file in matching(self._place):
            try:
                file.name.encode()
            except UnicodeEncodeError:
                name = file.name.encode("utf-8", "replace").decode()
                self._problems.append(one_line(f"{name}: its name is not UTF-8; rename it"))
                continue
            if self._api.format or format_of(file.name):
                yield file

    def _items_of(self, file: File) -> Generator[Any, None, None]:
        read = READERS[self._api.format or format_of(file.name)]
        with closing(opened(self._place, file.name)) as source, closing(read(source, self._api)) as items:
            for number, item in enumerate(items, start=1):
                own = stamp(file.name, file.folder, file.modified, number, self._api)
                yield item | own if isinstance(item, dict) else item


def format_of(name: str) -> str:
    plain = name.lower().removesuffix(".gz")
    return next((kind for ending, kind in _ENDINGS.items() if plain.endswith(ending)), "")


def opened(place: Place, name: str) -> BinaryIO:
    """Open a file to read it, unpacked when its name ends with .gz."""
    file = place.open(name)
    if not name.lower().endswith(".gz"):
        return file
    unpacked: Any = gzip.GzipFile(fileobj=file)
    unpacked.myfileobj = file  # closed with it
    return cast("BinaryIO", unpacked)


def why_not(error: Exception) -> str:
    """Return why a file cannot be read, without its content."""
    if isinstance(error, FileError | StorageError):
        return str(error)
    return f"cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
