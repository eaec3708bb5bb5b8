"""Rewrites a pack without the crops of some photos: its other crops and their rows move to a new pack, in one commit.

The old pack is removed afterwards: by an erasure at once, else by maintenance, when no version of the catalogue names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from cropline.catalogue import Catalogue
from cropline.core.errors import CatalogueError
from cropline.packs import Spool
from cropline.packs.reading import kind_of, opened, samples

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec


def rewrite(spec: StoreSpec, pack: str, source: str, gone: Collection[str], check_lock: Callable[[], None]) -> None:
    """Rewrite a pack so that no row names it. Crops that no row names, such as superseded ones, do not move.

    Raise what ``check_lock`` raises when another erasure has taken over. Then no row names the new pack, and
    maintenance removes it as an orphan. It is not removed here: the other erasure may be about to name a pack
    of the same content, which has the same key.
    """

    def moved(rows: pa.Table) -> pa.Table:
        stay = _moved(spec, pack, rows, source, gone)
        check_lock()
        return stay

    Catalogue(spec).rewrite_shard(pack, moved)


def _moved(spec: StoreSpec, pack: str, rows: pa.Table, source: str, gone: Collection[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    forgotten = pc.and_(
        pc.equal(rows["source"], source), pc.is_in(rows["image_id"], pa.array(sorted(gone), pa.string()))
    )
    stay = rows.filter(pc.invert(forgotten))
    if not len(stay):
        return stay
    key, offset_of = _copied(spec, pack, set(stay["key"].to_pylist()))
    missing = [name for name in stay["key"].to_pylist() if name not in offset_of]
    if missing:
        raise CatalogueError(f"{pack} does not hold {missing[0]}, but its row names it: nothing was changed")
    columns = {"shard": [key] * len(stay), "offset": [offset_of[name] for name in stay["key"].to_pylist()]}
    for name, values in columns.items():
        field = stay.schema.field(name)
        stay = stay.set_column(stay.schema.get_field_index(name), field, pa.array(values, field.type))
    return stay


def _copied(spec: StoreSpec, pack: str, wanted: set[str]) -> tuple[str, dict[str, int]]:
    kind = kind_of(pack)
    names: list[str] = []
    spool = Spool(spec, kind, pack.rpartition("/")[0])
    try:
        with opened(spec, pack) as file:
            for sample in samples(kind, file):
                name = str(sample.facts["key"])
                if name in wanted:
                    spool.add(sample)
                    names.append(name)
        key, sealed = spool.put()
    finally:
        spool.close()
    return key, dict(zip(names, sealed.offsets, strict=True))
