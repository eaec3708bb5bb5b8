"""A batch's work items as an Arrow table (schemas.CLAIM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cropline.core.errors import StateError
from cropline.state.tables import images

if TYPE_CHECKING:
    import pyarrow as pa


class Member(NamedTuple):
    """One claimed work item.

    A tuple: look-ups of columns by name would double the time of a query for 20,000 of them.
    """

    image_id: str
    profile: str
    profile_hash: str
    fingerprint: str
    manifest: str
    manifest_row: int
    catalogued: str | None  # the batch that committed it to the catalogue before
    rows_only: int | None


COLUMNS = (
    images.c.image_id, images.c.profile, images.c.claimed_hash, images.c.claimed_fingerprint,
    images.c.claimed_manifest, images.c.claimed_row, images.c.committed_batch, images.c.claimed_rows_only,
)  # fmt: skip


def claim_table(source: str, members: Sequence[Member], recipes: Mapping[tuple[str, str], str]) -> pa.Table:
    """Return one row per image, its work items nested. ``members`` must be sorted.

    Raise StateError when a recipe was never registered.
    """
    import pyarrow as pa

    from cropline.core.schemas import CLAIM, WORK

    firsts: list[Member] = []
    offsets: list[int] = []
    for index, member in enumerate(members):
        if not firsts or firsts[-1].image_id != member.image_id:
            firsts.append(member)
            offsets.append(index)
    columns = [
        [m.profile for m in members],
        [m.profile_hash for m in members],
        [m.fingerprint for m in members],
        [_recipe(recipes, m) for m in members],
        [None] * len(members),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, WORK, strict=True)]
    works = pa.StructArray.from_arrays(arrays, fields=list(WORK))
    return pa.Table.from_arrays(
        [
            pa.array([source] * len(firsts), pa.string()),
            pa.array([m.image_id for m in firsts], pa.string()),
            pa.array([m.manifest for m in firsts], pa.string()),
            pa.array([m.manifest_row for m in firsts], pa.int64()),
            pa.ListArray.from_arrays(pa.array([*offsets, len(members)], pa.int32()), works),
        ],
        schema=CLAIM,
    )


def _recipe(recipes: Mapping[tuple[str, str], str], member: Member) -> str:
    try:
        return recipes[member.profile, member.profile_hash]
    except KeyError:
        raise StateError(f"the recipe of profile {member.profile} was never registered") from None
