"""Checks a script: a dry run before anything is fetched, and the rows that the batch really returned.

The dry run sees rows of every status, with and without values, so that a filter after crop_images shows itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.errors import EngineError
from cropline.core.own_columns import OwnColumn
from cropline.core.schemas import CROPS, IMAGES
from fugue_jobs.engines.clusters import cause
from fugue_jobs.engines.script import check_columns
from fugue_jobs.rows import Ended, crop_rows, crops_schema, read_images
from fugue_jobs.work import CropOutcome, ImageOutcome, ImageWork

_KEY = ("manifest", "manifest_row", "box_index", "profile")
_HASH = "0" * 64
# The outcomes that the dry run deals out. Real values are between the small and the large ones.
_PHOTOS = (
    ImageOutcome([]),  # nothing is known of a photo that could not be fetched
    ImageOutcome([], 16, 16, _HASH, 700, "pillow", "0" * 16),
    ImageOutcome([], 20_000, 15_000, _HASH, 90_000_000, "regions", "f" * 16),
)
_FAILED = CropOutcome(0, 0, "failed", "http_5xx", "dry run", 60)
_CROPS = (
    CropOutcome(
        0, 0, "written", key="crops/a.jpg", bytes=90, sha256=_HASH, width=1, height=1, format="jpeg",
        left=0, top=0, right=1, bottom=1, luminance=0.0, sharpness=0.0, flags=None,
    ),
    CropOutcome(
        0, 0, "written", key="crops/z.png", bytes=90_000_000, sha256="f" * 64, width=20_000, height=15_000, format="png",
        left=9_000, top=9_000, right=20_000, bottom=15_000, luminance=1.0, sharpness=1e6, flags="clipped,dark",
        shard="shards/z.tar", offset=1_000_000_000,
    ),
    CropOutcome(0, 0, "skipped", "below_min_side", left=0, top=0, right=1, bottom=1),
    CropOutcome(0, 0, "failed", "box_outside", "dry run"),
)  # fmt: skip
_ROUNDS = len(_PHOTOS) * len(_CROPS)


def dry_run(
    run: Callable[[Any], pa.Table],
    counts: pa.Table,
    claimed: pa.Table,
    columns: Sequence[OwnColumn] = (),
    known: pa.Schema | None = None,
) -> None:
    """Run the script on the batch with a transformer that fetches nothing, and compare its rows with the claims.

    A small batch is run several times, until its rows had every outcome.

    run: returns the script's crops for a transformer. counts: manifests.COUNTS. columns, known: see
    script.check_columns. Raise EngineError with the broken rule.
    """
    expected = _expected(counts, claimed)
    photos: set[int] = set()
    crops: set[int] = set()
    for number in range(_ROUNDS):
        dealt = {_dealt(key[0], key[1], key[2], number) for key in expected}
        new_photos, new_crops = {photo for photo, _ in dealt} - photos, {crop for photo, crop in dealt if photo} - crops
        if number and not new_photos and not new_crops:
            continue
        found = _crops_of(run, number, columns)
        _check(found, expected, columns)
        check_columns(found.schema, columns, known)
        photos |= new_photos
        crops |= new_crops


def _crops_of(run: Callable[[Any], pa.Table], number: int, columns: Sequence[OwnColumn]) -> pa.Table:
    try:
        return run(stub_transformer(number, columns))
    except EngineError:
        raise
    except Exception as error:  # a user's script may raise anything that Fugue, SQL or an engine can
        # gRPC's errors are objects in brackets, over several lines.
        told = cause(error) if str(error).startswith("<") else _line(error)
        raise EngineError(f"the script does not run: {type(error).__name__}: {told}") from error


def _check(crops: pa.Table, expected: Sequence[tuple[Any, ...]], columns: Sequence[OwnColumn]) -> None:
    missing = [name for name in crops_schema(columns).names if name not in crops.column_names]
    if missing:
        raise EngineError(
            f"the script's crops lack the columns {', '.join(missing)}: crop_images returns them, so write "
            "SCHEMA {{ crops_schema }} instead of your own list, and select all of its columns"
        )
    try:
        rows = crops.select(list(_KEY)).cast(pa.schema([CROPS.field(name) for name in _KEY]))
    except pa.ArrowInvalid:
        raise EngineError("the script's crops have other column types than crop_images returned") from None
    _compare("the script", Counter(expected), _counted(rows))


def check_returned(crops: pa.Table, counts: pa.Table, claimed: pa.Table, script: str | None) -> None:
    """Raise EngineError unless there is exactly one row per claimed box and profile.

    crops: schemas.CROPS, in order (rows.in_order). script: the user's, if any.
    """
    expected = _expected(counts, claimed)
    columns = zip(*expected, strict=True) if expected else ((),) * len(_KEY)
    wanted = [pa.array(values, CROPS.field(name).type) for name, values in zip(_KEY, columns, strict=True)]
    # Columns are compared as they are: counting rows in Python takes seconds for a large batch.
    if len(crops) == len(expected) and all(
        pc.all(pc.equal(crops[name], values), min_count=0).as_py() for name, values in zip(_KEY, wanted, strict=True)
    ):
        return
    _compare(f"the script {script}" if script else "the engine", Counter(expected), _counted(crops))


def _compare(who: str, expected: Counter[Any], found: Counter[Any]) -> None:
    lost, extra = expected - found, found - expected
    if lost:
        raise EngineError(f"{who} loses {lost.total()} of {expected.total()} boxes, for example {min(lost)}")
    if extra:
        raise EngineError(f"{who} returns {extra.total()} rows too many, for example {min(extra)}")


def stub_transformer(
    number: int, columns: Sequence[OwnColumn] = ()
) -> Callable[[Iterable[pa.Table]], Iterable[pa.Table]]:
    """Return a replacement of crop_images that fetches nothing and deals out outcomes, others for another number.

    It raises EngineError for missing columns.
    """

    def transform(tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
        yield from _dealt_rows(tables, number, columns)
        yield crops_schema(columns).empty_table()

    return transform


def _dealt_rows(tables: Iterable[pa.Table], number: int, columns: Sequence[OwnColumn]) -> Iterator[pa.Table]:
    for table in tables:
        missing = [name for name in IMAGES.names if name not in table.column_names]
        if missing:
            raise EngineError(f"the script does not pass crop_images the columns {', '.join(missing)}")
        for batch in table.to_batches(max_chunksize=256):
            images = read_images([pa.Table.from_batches([batch])])
            yield crop_rows([Ended(image, _outcome(image, work, number)) for image, work in images], columns)


def _outcome(image: dict[str, Any], work: ImageWork, number: int) -> ImageOutcome:
    crops = []
    photo = 0
    for position, order in enumerate(work.orders):
        for box in range(len(work.boxes)):
            if order.wants(box):
                photo, crop = _dealt(image["manifest"], image["manifest_row"], box, number)
                dealt = _CROPS[crop] if photo else _FAILED
                crops.append(dealt._replace(order=position, box_index=box))
    return _PHOTOS[photo]._replace(crops=crops)


def _dealt(manifest: str, row: int, box: int, number: int) -> tuple[int, int]:
    """Return the positions in _PHOTOS and _CROPS of one box's outcome, the same here and on workers."""
    photo = crc32(f"{manifest} {row}".encode(errors="surrogateescape")) + number
    return photo % len(_PHOTOS), (photo + box) % len(_CROPS)


def _expected(counts: pa.Table, claimed: pa.Table) -> list[tuple[Any, ...]]:
    """Return the keys of the claimed boxes and profiles, in the order of rows.in_order."""
    boxes = {(row["manifest"], row["manifest_row"]): row["boxes"] for row in counts.to_pylist()}
    rows = sorted(
        claimed.select(["manifest", "manifest_row", "work"]).to_pylist(),
        key=lambda row: (row["manifest"], row["manifest_row"]),
    )
    return [
        (row["manifest"], row["manifest_row"], index, profile)
        for row in rows
        for index, profile in sorted(
            (index, work["profile"])
            for work in row["work"] or ()
            for index in _wanted(work["only"], boxes[row["manifest"], row["manifest_row"]])
        )
    ]


def _wanted(only: Sequence[int] | None, boxes: int) -> Iterable[int]:
    """Positions of the boxes to cut, see schemas.WORK."""
    return range(boxes) if only is None else only


def _counted(rows: pa.Table) -> Counter[Any]:
    return Counter(zip(*(rows[name].to_pylist() for name in _KEY), strict=True))


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200]
