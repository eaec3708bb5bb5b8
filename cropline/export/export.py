"""Exports chosen crops to a folder: reads one range per crop, several at once, and writes one of the formats.

The folder appears when it is complete. Until then its name says that it is unfinished.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.catalogue import Catalogue
from cropline.catalogue.crop_files import read_crop
from cropline.core.errors import ExportError
from cropline.export.choose import chosen
from cropline.export.formats import FORMATS as FORMATS
from cropline.export.formats import Crop

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

_PROCESS = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)  # a process id
_READS_AT_ONCE = 16
_AHEAD = 64  # crops in memory


@dataclass(frozen=True)
class Exported:
    """What an export wrote. ``no_numbers``: facts that are null because they were NaN or infinite."""

    crops: int
    bytes: int
    folder: Path
    no_numbers: int = 0


def export(
    spec: StoreSpec,
    out: Path,
    *,
    where: str | None,
    kind: str,
    limit: int | None = None,
    profiles: Sequence[str] = (),
) -> Exported:
    """Write the chosen crops to a new folder. ``profiles``: empty means all.

    The same catalogue and condition produce the same files. Raise ExportError when the folder is not empty or
    the condition is invalid, StorageError when a crop cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists and is not empty: name a new folder")
    unfinished = out.with_name(f"{_unfinished(out)}{os.getpid()}")
    try:
        _delete_leftovers(out)
        unfinished.mkdir(parents=True)
        crops = size = no_numbers = 0
        with FORMATS[kind](unfinished, Catalogue(spec).own_columns()) as write:
            for crop in _read(spec, chosen(spec, where, limit, profiles)):
                write(crop)
                crops += 1
                size += len(crop.data)
                no_numbers += crop.no_numbers
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error.strerror or type(error).__name__}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Exported(crops, size, out, no_numbers)


def _unfinished(out: Path) -> str:
    """Return the prefix of the folders in which this machine builds this export. Other exports may be beside them."""
    return f"{out.name}.unfinished-{socket.gethostname()}-"


def _delete_leftovers(out: Path) -> None:
    """Remove what killed exports to this folder left on this machine. It may be large."""
    for left in out.parent.glob(f"{glob.escape(_unfinished(out))}*"):
        number = left.name.removeprefix(_unfinished(out))
        if _PROCESS.fullmatch(number):
            try:
                os.kill(int(number), 0)
            except ProcessLookupError:
                shutil.rmtree(left)
            except PermissionError:
                continue  # the process runs under another user


def _read(spec: StoreSpec, rows: Iterator[dict[str, Any]]) -> Iterator[Crop]:
    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="export") as pool:
        while part := list(itertools.islice(rows, _AHEAD)):
            yield from map(Crop, part, pool.map(lambda row: read_crop(spec, row), part))
