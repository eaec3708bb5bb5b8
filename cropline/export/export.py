"""From a condition to a folder: crops are read one range each, several at once, and written in one of the formats.

Belongs here: the run of an export. Does not: choosing rows (choose.py) or the formats (formats.py).
The folder appears when it is whole: until then it lies beside, under a name that says so.
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

from cropline.catalogue.crop_files import read_crop
from cropline.core.errors import ExportError
from cropline.export.choose import chosen
from cropline.export.formats import FORMATS as FORMATS
from cropline.export.formats import Crop

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

_PROCESS = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)  # its number
_READS_AT_ONCE = 16
_AHEAD = 64  # crops in memory


@dataclass(frozen=True)
class Exported:
    """What an export wrote. ``no_numbers``: facts that are null there because they were NaN or infinite."""

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
    """Write the chosen crops, of all profiles or of some, to a new folder. The same catalogue and condition give the same files.

    Raises ExportError when the folder holds something or the condition is none, StorageError when a crop cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is there and not empty: name a new folder")
    unfinished = out.with_name(f"{_unfinished(out)}{os.getpid()}")
    try:
        _delete_leftovers(out)
        unfinished.mkdir(parents=True)
        crops = size = no_numbers = 0
        with FORMATS[kind](unfinished) as write:
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
    """How the folders begin in which this machine's processes build this export: others may share the folder above."""
    return f"{out.name}.unfinished-{socket.gethostname()}-"


def _delete_leftovers(out: Path) -> None:
    """Remove what exports to this folder left that were killed on this machine: it may be much."""
    for left in out.parent.glob(f"{glob.escape(_unfinished(out))}*"):
        number = left.name.removeprefix(_unfinished(out))
        if _PROCESS.fullmatch(number):
            try:
                os.kill(int(number), 0)
            except ProcessLookupError:
                shutil.rmtree(left)
            except PermissionError:
                continue  # it lives, and is somebody else's


def _read(spec: StoreSpec, rows: Iterator[dict[str, Any]]) -> Iterator[Crop]:
    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="export") as pool:
        while part := list(itertools.islice(rows, _AHEAD)):
            yield from map(Crop, part, pool.map(lambda row: read_crop(spec, row), part))
