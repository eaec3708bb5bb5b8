"""A batch's work items: as the state table has them (MEMBERS), and as the Arrow table of a batch (schemas.CLAIM)."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.errors import StateError
from cropline.core.schemas import CLAIM, WORK
from cropline.state.held import HELD
from cropline.state.tables import images

MEMBERS = pa.schema(
    [
        ("image_id", pa.string()),
        ("profile", pa.string()),
        ("profile_hash", pa.string()),
        ("fingerprint", pa.string()),
        ("manifest", pa.string()),
        ("manifest_row", pa.int64()),
        ("catalogued", pa.string()),  # the batch that committed it to the catalogue before; null: none
        ("rows_only", pa.int64()),
    ]
)

# MEMBERS at the claim, and of a batch that registrations may have met since.
CLAIMED = (
    images.c.image_id, images.c.profile, images.c.profile_hash, images.c.fingerprint,
    images.c.manifest, images.c.manifest_row, images.c.committed_batch, images.c.rows_only,
)  # fmt: skip
RESUMED = (
    images.c.image_id, images.c.profile, HELD["claimed_hash"], images.c.claimed_fingerprint,
    HELD["claimed_manifest"], HELD["claimed_row"], images.c.committed_batch, HELD["claimed_rows_only"],
)  # fmt: skip


def claim_table(source: str, members: pa.Table, recipes: Mapping[tuple[str, str], str]) -> pa.Table:
    """Return one row per image, its work items nested. ``members``: MEMBERS, sorted by image and profile.

    Raise StateError when a recipe was never registered.
    """
    heads_at = firsts(members["image_id"])
    arrays = [members[name].combine_chunks() for name in ("profile", "profile_hash", "fingerprint")]
    arrays += [_recipes(members, recipes), pa.nulls(members.num_rows, WORK.field("only").type)]
    works = pa.StructArray.from_arrays(arrays, fields=list(WORK))
    heads = members.take(heads_at)
    return pa.Table.from_arrays(
        [
            pa.repeat(pa.scalar(source, pa.string()), len(heads_at)),
            heads["image_id"],
            heads["manifest"],
            heads["manifest_row"],
            pa.ListArray.from_arrays(pa.array([*heads_at.to_pylist(), members.num_rows], pa.int32()), works),
        ],
        schema=CLAIM,
    )


def firsts(ids: pa.ChunkedArray) -> pa.Array:
    """Return the positions at which another id begins. ``ids``: sorted."""
    if len(ids) == 0:
        return pa.array([], pa.int64())
    other = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)).combine_chunks()
    return pc.indices_nonzero(pa.concat_arrays([pa.array([True]), other]))


def _recipes(members: pa.Table, recipes: Mapping[tuple[str, str], str]) -> pa.Array:
    """Return the recipe of each member. There are few pairs of profile and hash, and many members."""
    profiles, hashes = (members[name].combine_chunks().dictionary_encode() for name in ("profile", "profile_hash"))
    width = max(len(hashes.dictionary), 1)
    pairs = pc.add(pc.multiply(profiles.indices.cast(pa.int64()), width), hashes.indices).dictionary_encode()
    texts = [
        _recipe(recipes, profiles.dictionary[pair // width].as_py(), hashes.dictionary[pair % width].as_py())
        for pair in pairs.dictionary.to_pylist()
    ]
    return pa.array(texts, pa.string()).take(pairs.indices)


def _recipe(recipes: Mapping[tuple[str, str], str], profile: str, profile_hash: str) -> str:
    try:
        return recipes[profile, profile_hash]
    except KeyError:
        raise StateError(f"the recipe of profile {profile} was never registered") from None
