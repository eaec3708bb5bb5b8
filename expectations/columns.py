"""The columns that the manifest's rules check: a manifest as flat frames with one row per image.

Great Expectations prints values into its pages, so no text from outside enters a frame unchanged: a URL
becomes scheme and host, an id its length, boxes the number of faulty ones. Numbers are int64 or float64,
because GX compares other widths value by value, in Python.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.schemas import MANIFEST
from expectations.boxes import box_columns
from expectations.manifest import MAX_ID_LENGTH

if TYPE_CHECKING:
    import pandas as pd

_URL = r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]{0,31})://(?P<authority>[^/?#]*)"
_HOST = r"^(?:.*@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]{1,253})(?::(?P<port>[0-9]{1,5}))?$"
# The fetcher refuses the same characters: blanks, control characters and backslashes.
_NOT_IN_A_URL = r"[\pZ\pC\\]"
_NOT_IN_A_KEY = r"[\pC\\]"
_NOT_IN_A_FIELD = re.compile(r"[^A-Za-z0-9_.\[\] ]")


def shape_frame(manifest: pa.Table) -> pd.DataFrame:
    """One row per required column: its name, its type in the manifest (null: missing), and whether that is right."""
    import pandas as pd

    types = [manifest.schema.field(f.name).type if f.name in manifest.column_names else None for f in MANIFEST]
    return pd.DataFrame(
        {
            "row": range(len(MANIFEST)),
            "column": MANIFEST.names,
            "type": [None if kind is None else str(kind) for kind in types],
            "type_is_right": [
                None if t is None else int(t.equals(f.type)) for t, f in zip(types, MANIFEST, strict=True)
            ],
        }
    )


_BETWEEN = "\x1f"  # joins store and camera id; normal ids do not contain it


def row_frame(
    manifest: pa.Table,
    *,
    now: datetime,
    hosts: Collection[str] = (),
    schemes: Collection[str] = (),
    known_stores: Collection[str] | None = None,
    known_cameras: Collection[tuple[str, str]] | None = None,
) -> pd.DataFrame:
    """Return the columns that rules on single rows check. ``manifest`` must have the right shape.

    ``hosts``: allowed hosts, lower case. When one has a port, the port is part of its host here. ``schemes``: allowed
    schemes besides http and https; in their URLs a bucket or folder replaces the host.
    """
    import pandas as pd

    columns: dict[str, object] = {"row": manifest["row"].to_pandas()}
    for name in ("image_id", "version", "store_id", "camera_id"):
        columns[f"{name}_length"] = _length(manifest[name])
    columns |= _url_columns(manifest["url"], hosts, schemes)
    columns["captured_s_ago"] = _seconds_ago(manifest["captured_at"], now)
    columns["updated_s_ago"] = _seconds_ago(manifest["updated_at"], now)
    columns |= box_columns(manifest)
    for name in ("width", "height", "bytes"):
        columns[name] = _numbers(manifest[name])
    columns["coordinates"] = _words(_known_word(manifest["coordinates"], ("normalised", "pixels")))
    columns["orientation"] = _words(_known_word(manifest["orientation"], ("upright", "stored")))
    columns |= _unreadable_columns(manifest["unreadable"])
    columns["sha256_malformed"] = _flags(pc.invert(pc.match_substring_regex(manifest["sha256"], "^[0-9a-fA-F]{64}$")))
    if known_stores is not None:
        known = pc.is_in(manifest["store_id"], value_set=pa.array(sorted(known_stores), pa.string()))
        columns["store_unknown"] = _flags(pc.and_(pc.invert(known), manifest["store_id"].is_valid()))
    if known_cameras is not None:
        pairs = pc.binary_join_element_wise(manifest["store_id"], manifest["camera_id"], _BETWEEN)
        known = pc.is_in(pairs, value_set=pa.array(sorted(_BETWEEN.join(pair) for pair in known_cameras), pa.string()))
        columns["camera_unknown"] = _flags(pc.and_(pc.invert(known), pairs.is_valid()))
    return pd.DataFrame(columns)


# Facts that a version fixes. The URL is not one of them, because its signature may be new each time.
_FACTS = ("content_hash", "captured_at", "store_id", "camera_id", "width", "height", "bytes", "sha256")


def version_frame(manifest: pa.Table, good: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Return for each row whether it is superseded or ambiguous.

    Superseded: its image has a newer row. Ambiguous (good rows only): another row of the same version and
    time has other facts. A good row is superseded by the image's newest good row, a bad row by the newest of
    any kind. Of rows with the same time, the later one in the listing is newer. A bad row without a time or
    a usable id is left out.
    """
    import pandas as pd

    table = manifest.select(["source", "image_id", "version", "updated_at", *_FACTS])
    timed = table["updated_at"].cast(pa.int64())
    frame = pd.DataFrame(
        {
            "source": _codes(table["source"]),
            "image": _codes(table["image_id"]),
            "updated": pc.fill_null(timed, 0).to_numpy(),
            "good": good,
        }
    )
    superseded, ambiguous = (np.zeros(len(frame), dtype=np.int64) for _ in range(2))
    # An unusable id names no image, so such a row is never another one's older version.
    placed = (_length(table["image_id"]) <= MAX_ID_LENGTH) & np.asarray(timed.is_valid())
    several = frame[placed & frame.duplicated(["source", "image"], keep=False)]
    if len(several):
        at = several.index
        texts = table.take(pa.array(at.to_numpy()))
        facts = pd.DataFrame({name: _codes(texts[name].cast(pa.string())) for name in _FACTS}, index=at)
        several = several.assign(
            version=_codes(texts["version"]), facts=facts.groupby(list(_FACTS), sort=False).ngroup()
        ).sort_values("updated", kind="stable")
        by_image = several.groupby(["source", "image"], sort=False)
        newest = by_image.tail(1).index
        newest_good = several[several["good"]].groupby(["source", "image"], sort=False).tail(1).index
        for rows, winners in ((several[~several["good"]], newest), (several[several["good"]], newest_good)):
            won = several.loc[winners].set_index(["source", "image"])[["version", "updated", "facts"]]
            both = rows.drop(index=winners, errors="ignore").join(won, on=["source", "image"], rsuffix="_won")
            same = (both["version"] == both["version_won"]) & (both["updated"] == both["updated_won"])
            other = same & (both["facts"] != both["facts_won"])
            superseded[both.index[~other]] = 1
            ambiguous[both.index[other & both["good"]]] = 1
    return pd.DataFrame({"row": manifest["row"].to_numpy(), "superseded": superseded, "ambiguous": ambiguous})


def _url_columns(url: pa.ChunkedArray, hosts: Collection[str], schemes: Collection[str]) -> dict[str, object]:
    parts = pc.extract_regex(url, _URL)
    authority = pc.struct_field(parts, "authority")
    host = _host(authority, hosts)
    scheme = pc.if_else(url.is_valid(), pc.fill_null(pc.utf8_lower(pc.struct_field(parts, "scheme")), "(none)"), None)
    stored = pc.fill_null(pc.is_in(scheme, value_set=pa.array(sorted(schemes), pa.string())), False)
    odd = pc.if_else(stored, pc.match_substring_regex(url, _NOT_IN_A_KEY), pc.match_substring_regex(url, _NOT_IN_A_URL))
    no_host = pc.and_(pc.and_(url.is_valid(), host.is_null()), pc.invert(stored))
    malformed = pc.or_kleene(odd, no_host)
    # When the parts of a URL are not certain, no part is shown: it may be half a password.
    host = pc.if_else(pc.or_kleene(malformed, stored), pa.scalar(None, pa.string()), host)
    return {
        "url_scheme": _words(scheme),
        "url_host": _words(host),
        "url_malformed": _flags(malformed),
        "url_has_user": _flags(pc.and_(pc.match_substring(authority, "@"), pc.invert(stored))),
    }


def _host(authority: pa.ChunkedArray, hosts: Collection[str]) -> pa.Array:
    """Return the host in lower case, with its port if the allowed hosts have ports; null when it is not certain."""
    # There are few hosts and many URLs.
    coded = authority.combine_chunks().dictionary_encode()
    parts = pc.extract_regex(pc.utf8_lower(coded.dictionary), _HOST).take(coded.indices)
    host, port = pc.struct_field(parts, "host"), pc.struct_field(parts, "port")
    if not any(":" in allowed.rpartition("]")[2] for allowed in hosts):
        return host
    with_port = pc.binary_join_element_wise(host, port, ":")
    listed = pc.is_in(with_port, value_set=pa.array(sorted(hosts), pa.string()))
    return pc.if_else(listed, with_port, host)


def _length(text: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Return the number of characters; null when all are blanks."""
    length = pc.utf8_length(pc.utf8_trim_whitespace(text))
    return _numbers(pc.if_else(pc.equal(length, 0), pa.scalar(None, pa.int32()), pc.utf8_length(text)))


def _seconds_ago(moment: pa.ChunkedArray, now: datetime) -> npt.NDArray[np.float64]:
    return now.timestamp() - _numbers(moment.cast(pa.int64())) / 1e6


def _numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Return float64, with NaN for null."""
    numbers: npt.NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _flags(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return 1 where true, else 0."""
    flags: npt.NDArray[np.int64] = pc.cast(pc.fill_null(values, False), pa.int8()).to_numpy().astype(np.int64)
    return flags


def _words(values: pa.ChunkedArray) -> object:
    """Return a pandas categorical, which holds each distinct word once."""
    return values.dictionary_encode().to_pandas()


def _codes(values: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """Return a number for each distinct text; null is one of them."""
    coded = values.combine_chunks().dictionary_encode(null_encoding="encode")
    codes: npt.NDArray[np.int32] = coded.indices.to_numpy(zero_copy_only=False)
    return codes


def _known_word(values: pa.ChunkedArray, known: tuple[str, ...]) -> pa.ChunkedArray:
    """Return the word if it is known, else "(other)", also for null."""
    is_known = pc.is_in(values, value_set=pa.array(known))
    return pc.if_else(is_known, values, "(other)")


def _unreadable_columns(unreadable: pa.ChunkedArray) -> dict[str, object]:
    """Return the joined names of fields that could not be converted, of the image and of its boxes; null for none."""
    import pandas as pd

    rows = np.flatnonzero(pc.fill_null(pc.list_value_length(unreadable), 0).to_numpy())
    image, boxes = (np.full(len(unreadable), None, dtype=object) for _ in range(2))
    for row, names in zip(rows, unreadable.take(pa.array(rows)).to_pylist(), strict=True):
        image[row] = _joined(name for name in names if not name.startswith("boxes["))
        boxes[row] = _joined(name for name in names if name.startswith("boxes["))
    return {"unreadable": pd.Categorical(image), "unreadable_in_boxes": pd.Categorical(boxes)}


def _joined(names: Iterable[str]) -> str | None:
    return _NOT_IN_A_FIELD.sub("", " ".join(names))[:120] or None
