"""List the files that a path or a storage URL with a glob names, on a disk or in a bucket, and open them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol, cast
from urllib.parse import unquote

from cropline.core import storage
from cropline.core.errors import ApiRefused, ApiUnavailable, StorageError
from cropline.core.store_spec import StoreSpec
from cropline.intake.item_url import file_url

SpecOf = Callable[[str], StoreSpec]
"""From a bucket's address to the way to open it."""

_GLOB = re.compile(r"[*?\[]")
_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]/]+\]|[^*?\[]+|\[")


@dataclass(frozen=True)
class File:
    """One file. ``name``: its path or key. ``folder``: URL of its folder. ``version`` changes when it is written again."""

    name: str
    folder: str
    version: str
    modified: datetime
    size: int


class Place(Protocol):
    """The files of one folder or bucket. Its names are paths, or keys."""

    pattern: str
    """What the address names: a file, a folder, or a glob."""

    def one(self, name: str) -> File | None:
        """Return one file; None when it does not exist."""
        ...

    def below(self, folder: str, after: str | None = None, deep: int | None = None) -> Iterator[File]:
        """Yield all files below a folder, without those up to the name ``after``. ``deep``: only so many levels.

        A bucket yields them in the order of their names. Raise ApiRefused or ApiUnavailable.
        """
        ...

    def url(self, name: str) -> str:
        """Return the address of a file, as a photo's address is written."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Return a seekable file. Raise StorageError or OSError."""
        ...


def place_of(url: str, spec_of: SpecOf) -> Place:
    """Return the place of a path, a file:// URL or the URL of a bucket."""
    if url.startswith("file://"):
        return _Folder(unquote(url.removeprefix("file://")))
    if "://" not in url:
        return _Folder(url)
    scheme, _, rest = url.partition("://")
    bucket, _, pattern = rest.partition("/")
    return _Bucket(spec_of(f"{scheme}://{bucket}"), pattern)


def root_of(place: Place) -> str:
    """Return the folder that is listed: the one that is named, or the last one before a glob."""
    pattern = place.pattern
    return _fixed(pattern) if has_glob(pattern) else pattern.rstrip("/")


def matching(place: Place) -> Iterator[File]:
    """Yield the file that the address names, or all files that match its glob, or all files below its folder."""
    pattern = place.pattern
    if not has_glob(pattern):
        found = place.one(pattern) if pattern and not pattern.endswith("/") else None
        if found is not None:
            yield found
            return
        yield from place.below(root_of(place))
        return
    root, matches = root_of(place), glob_regex(pattern)
    deep = None if "**" in pattern else pattern.count("/") - root.count("/")
    for file in place.below(root, deep=deep):
        if matches.fullmatch(file.name):
            yield file


def has_glob(pattern: str) -> bool:
    """Return whether a pattern names more than one file."""
    return _GLOB.search(pattern) is not None


def glob_regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a glob: * and ? stay within a folder, ** goes through any number of them."""
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = (known.get(part) or _literal(part) for part in _PARTS.findall(pattern))
    return re.compile("".join(parts), re.DOTALL)


def _literal(part: str) -> str:
    if len(part) > 2 and part.startswith("["):
        inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(part)


def _fixed(pattern: str) -> str:
    """Return the folder before the first part with a glob."""
    found = _GLOB.search(pattern)
    return (pattern if found is None else pattern[: found.start()]).rpartition("/")[0]


class _Folder:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def one(self, name: str) -> File | None:
        try:
            facts = Path(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(facts.st_mode):
            return None
        # The change time too: it also tells a file that was rewritten in place with its old time.
        version = f"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_ctime_ns:x}-{facts.st_size:x}"
        folder = self.url(str(Path(name).parent))
        return File(name, folder, version, datetime.fromtimestamp(facts.st_mtime, UTC), facts.st_size)

    def below(self, folder: str, after: str | None = None, deep: int | None = None) -> Iterator[File]:
        root = folder or "/"
        if not Path(root).is_dir():
            raise ApiRefused(f"CROPLINE_API__URL: there is no file and no folder {root}")

        def refuse(error: OSError) -> None:
            raise ApiRefused(f"CROPLINE_API__URL: the folder {error.filename} cannot be listed ({error.strerror})")

        for inner, folders, names in os.walk(root, onerror=refuse):
            if deep is not None and inner.rstrip("/").count("/") - root.rstrip("/").count("/") >= deep - 1:
                folders.clear()
            for name in names:
                path = f"{inner.rstrip('/')}/{name}"
                if (after is None or path > after) and (file := self.one(path)) is not None:
                    yield file

    def url(self, name: str) -> str:
        return file_url(os.fsencode(name).decode("utf-8", "replace"))

    def open(self, name: str) -> BinaryIO:
        return Path(name).open("rb")


class _Bucket:
    def __init__(self, spec: StoreSpec, pattern: str) -> None:
        self._spec, self.pattern = spec, pattern

    def one(self, name: str) -> File | None:
        failure: ApiUnavailable
        try:
            found = storage.head(self._spec, name)
        except StorageError as error:
            failure = ApiUnavailable(f"CROPLINE_API__URL: {error}")
        else:
            return None if found is None else self._file(found)
        raise failure

    def below(self, folder: str, after: str | None = None, deep: int | None = None) -> Iterator[File]:  # noqa: ARG002
        failure: ApiUnavailable
        try:
            for found in storage.list_objects(self._spec, folder, after):
                yield self._file(found)
        except StorageError as error:
            failure = ApiUnavailable(f"CROPLINE_API__URL: {error}")
        else:
            return
        raise failure

    def url(self, name: str) -> str:
        return self._spec.uri(name)

    def open(self, name: str) -> BinaryIO:
        return cast("BinaryIO", storage.open_object(self._spec, name))

    def _file(self, found: storage.Listed) -> File:
        folder = self._spec.uri(found.key.rpartition("/")[0]).rstrip("/")
        return File(found.key, folder, found.version, found.modified, found.size)
