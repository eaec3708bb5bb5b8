"""Which input columns each catalogue column comes from, as OpenLineage's columnLineage facet.

A test fails when the catalogue gains a column that is missing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cropline.lineage import facets
from cropline.lineage.datasets import Name

_SAME = "IDENTITY"
_MADE = "TRANSFORMATION"

_PICTURE = ("url", "boxes", "coordinates", "orientation")
_STORE_COLUMNS = ("store_name", "city", "region", "store_format")

# catalogue column -> (kind of transformation, columns of the manifest, columns of the profiles table)
_FROM: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    **{name: (_SAME, (name,), ()) for name in ("source", "image_id", "version", "store_id", "camera_id")},
    "manifest_row": (_SAME, ("row",), ()),
    **dict.fromkeys(("box_id", "xmin", "ymin", "xmax", "ymax", "label", "score"), (_SAME, ("boxes",), ())),
    "box_index": (_MADE, ("boxes",), ()),
    "profile": (_SAME, (), ("name",)),
    "profile_hash": (_SAME, (), ("hash",)),
    "fingerprint": (_MADE, ("content_hash",), ("hash",)),
    "box_fingerprint": (_MADE, ("version", "boxes", "coordinates", "orientation"), ("hash",)),
    "captured_at": (_MADE, ("captured_at",), ()),
    "captured_date": (_MADE, ("captured_at",), ()),
    "key": (_MADE, ("source", "image_id", "content_hash", "boxes"), ("name", "hash")),
    **dict.fromkeys(("left", "top", "right", "bottom", "width", "height"), (_MADE, _PICTURE, ("recipe",))),
    **dict.fromkeys(("box_left", "box_top"), (_MADE, _PICTURE, ("recipe",))),
    **dict.fromkeys(("bytes", "sha256", "luminance", "sharpness", "flags", "status"), (_MADE, _PICTURE, ("recipe",))),
    **dict.fromkeys(("reason", "detail", "retry_after_s"), (_MADE, _PICTURE, ("recipe",))),
    "format": (_MADE, (), ("recipe",)),
    **dict.fromkeys(
        ("image_width", "image_height", "image_sha256", "image_bytes", "decoder", "image_phash"), (_MADE, ("url",), ())
    ),
}

# Set by the run, not read from a dataset.
OF_THE_RUN = (
    "manifest", "shard", "offset", "batch_id", "attempt", "flow_run", "committed_at",
    "recrop_reason", "recrop_detail", "recrop_failed_at",
)  # fmt: skip


def catalogue_columns(manifest: Name, profiles: Name, images: Name, stores: Name | None) -> facets.Facet:
    """The columnLineage facet of the catalogue. ``images``: the state table, whose claim decides which rows exist."""
    fields = {
        column: [*_inputs(manifest, ours, how), *_inputs(profiles, theirs, how)]
        for column, (how, ours, theirs) in _FROM.items()
    }
    dataset = _inputs(images, ("batch_id",), "FILTER", "INDIRECT")
    if stores is not None:
        fields |= {column: _inputs(stores, (column,), _SAME) for column in _STORE_COLUMNS}
        dataset += _inputs(stores, ("store_id",), "JOIN", "INDIRECT") + _inputs(
            manifest, ("store_id",), "JOIN", "INDIRECT"
        )
    return facets.column_lineage(fields, dataset)


def _inputs(name: Name, columns: Iterable[str], subtype: str, kind: str = "DIRECT") -> list[dict[str, Any]]:
    how = [{"type": kind, "subtype": subtype, "description": "", "masking": False}]
    return [{"namespace": name[0], "name": name[1], "field": column, "transformations": how} for column in columns]
