"""The meaning of each column of the manifests and of the catalogue: the one place that describes them.

Delta's column comments, the reference pages, lineage's schema facets and exported Parquet files have these texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """``null``: when the column is null; "" is never. ``unit``: of a number or text; "" for others."""

    meaning: str
    example: str
    null: str = ""
    unit: str = ""

    @property
    def comment(self) -> str:
        """All of it in one line."""
        unit = f" ({self.unit})" if self.unit else ""
        null = f"null {self.null}" if self.null else "never null"
        return f"{self.meaning}{unit}; {null}; for example {self.example}"


_UTC = "UTC"
_PX = "px"
_UNKNOWN = "when the source does not say"
_UNWRITTEN = "unless written"
_NO_STORE = "when the stores table has none"
_AS_IT_CAME = "as it came: 0 to 1, or px; see coordinates"

BOX_COLUMNS = {
    "box_id": Column("id of the box in its image, as the source returns it", "b17", _UNKNOWN),
    "xmin": Column("left edge", "0.125", _UNKNOWN, _AS_IT_CAME),
    "ymin": Column("top edge", "0.5", _UNKNOWN, _AS_IT_CAME),
    "xmax": Column("right edge", "0.25", _UNKNOWN, _AS_IT_CAME),
    "ymax": Column("bottom edge", "0.75", _UNKNOWN, _AS_IT_CAME),
    "label": Column("what the detector saw in the box", "cola 0.5 l", _UNKNOWN),
    "score": Column("confidence of the detector", "0.93", _UNKNOWN, "as it came"),
}

MANIFEST_COLUMNS = {
    "row": Column("position in this manifest, from 0", "0"),
    "source": Column("name of the source: CROPLINE_API__SOURCE", "cams"),
    "image_id": Column("id of the photo at its source", "cam-3/2026-11-22/0839"),
    "version": Column("the source's etag, else sha256, else updated_at", "9b2d1c", _UNKNOWN),
    "url": Column(
        "where the photo is; may be signed and never leaves the manifest",
        "https://photos.example.com/1.jpg?sig=...",
        _UNKNOWN,
    ),
    "captured_at": Column("when the photo was taken", "2026-11-22 08:39:00", _UNKNOWN, _UTC),
    "updated_at": Column("when the item last changed at its source", "2026-11-22 08:40:00", _UNKNOWN, _UTC),
    "store_id": Column("id of the store", "s1", _UNKNOWN),
    "camera_id": Column("id of the camera", "s1-c3", _UNKNOWN),
    "width": Column("declared width of the upright photo", "4032", _UNKNOWN, _PX),
    "height": Column("declared height of the upright photo", "3024", _UNKNOWN, _PX),
    "bytes": Column("declared size of the photo's file", "2600000", _UNKNOWN, "bytes"),
    "sha256": Column("declared SHA-256 of the photo's file", "e3b0c44298fc...", _UNKNOWN, "hex"),
    "coordinates": Column("unit of the boxes' edges: normalised or pixels", "normalised"),
    "orientation": Column("which picture the boxes were measured on: upright or stored", "upright"),
    "boxes": Column("the photo's boxes, nested", "[{box_id: b17, ...}]", "when the item has none"),
    "item_digest": Column("digest of the item as it came, without the queries of its URLs", "5f70bf18a086..."),
    "content_hash": Column(
        "hash of version, coordinates, orientation and boxes: a part of the fingerprint", "2c26b46b68ff..."
    ),
    "attributes": Column(
        "fields of the item that cropline does not know, as a JSON object", '{"aisle": 4}', "when there are none"
    ),
    "unreadable": Column("columns whose value could not be converted", "[captured_at]", "when all could"),
    "raw": Column(
        "the item as it came, as JSON",
        '{"id": "1", ...}',
        "when it is too long, or when readable items were grouped by image",
    ),
}

CATALOGUE_COLUMNS = {
    "source": MANIFEST_COLUMNS["source"],
    "image_id": MANIFEST_COLUMNS["image_id"],
    "version": MANIFEST_COLUMNS["version"],
    "profile": Column("name of the profile that made the crop", "default"),
    "profile_hash": Column("hash of the profile's recipe", "4bf5122f3445...", unit="hex"),
    "fingerprint": Column(
        "hash of version, boxes and recipe: the same work has the same fingerprint", "dbc1b4c900ff...", unit="hex"
    ),
    "box_fingerprint": Column(
        "hash of everything that this one crop depends on", "084fed08b978...", "when the image has no version", "hex"
    ),
    "box_id": BOX_COLUMNS["box_id"],
    "box_index": Column("position in the image's boxes, from 0", "0"),
    "status": Column("written, failed or skipped", "written"),
    "reason": Column("reason code of a failed or skipped box", "http_404", "when written"),
    "detail": Column(
        "one line for people about the reason, without secrets", "photos.example.com: 404", "when written"
    ),
    "retry_after_s": Column("how long the photo's host asked to wait", "30", "when it did not ask", "seconds"),
    "key": Column(
        "the crop's permanent name, and its object key when shard is null",
        "crops/default-1/cams-2/photo-3/dbc1b4c9/0000-b17.jpg",
        _UNWRITTEN,
    ),
    "shard": Column(
        "object key of the pack that holds the crop",
        "shards/train-4/b-2026/9f86d081.tar",
        "when it is an object by itself",
    ),
    "offset": Column("position of the crop's first byte in the pack", "1536", "when shard is", "bytes"),
    "bytes": Column("size of the crop", "20480", _UNWRITTEN, "bytes"),
    "sha256": Column("SHA-256 of the crop", "9f86d081884c...", _UNWRITTEN, "hex"),
    "width": Column("width of the crop", "320", _UNWRITTEN, _PX),
    "height": Column("height of the crop", "480", _UNWRITTEN, _PX),
    "format": Column("format of the crop: jpeg, png, webp or avif", "jpeg", _UNWRITTEN),
    "left": Column(
        "left edge of the cut in the upright photo, after padding, rounding and clipping", "504", "when not cut", _PX
    ),
    "top": Column("top edge of the cut in the upright photo", "1512", "when not cut", _PX),
    "right": Column("right edge of the cut in the upright photo", "824", "when not cut", _PX),
    "bottom": Column("bottom edge of the cut in the upright photo", "1992", "when not cut", _PX),
    "box_left": Column(
        "left edge of the cut in the crop, where a lossless crop is larger than the cut", "4", "for other crops", _PX
    ),
    "box_top": Column("top edge of the cut in the crop, of a lossless crop", "8", "for other crops", _PX),
    "xmin": BOX_COLUMNS["xmin"],
    "ymin": BOX_COLUMNS["ymin"],
    "xmax": BOX_COLUMNS["xmax"],
    "ymax": BOX_COLUMNS["ymax"],
    "label": BOX_COLUMNS["label"],
    "score": BOX_COLUMNS["score"],
    "image_width": Column("width of the upright photo as decoded", "4032", "when it was not decoded", _PX),
    "image_height": Column("height of the upright photo as decoded", "3024", "when it was not decoded", _PX),
    "image_sha256": Column(
        "SHA-256 of the bytes that were fetched", "e3b0c44298fc...", "when nothing was fetched", "hex"
    ),
    "image_bytes": Column("size of the photo that was fetched", "2600000", "when nothing was fetched", "bytes"),
    "decoder": Column(
        "what decoded the photo: regions, or pillow with the reason; bits when lossless crops were cut undecoded",
        "regions",
        "when there was no photo",
    ),
    "image_phash": Column(
        "perceptual hash of the photo, one letter per cell of a 16 x 16 grid",
        "aabbccdd...",
        "unless all boxes of the photo were cut",
    ),
    "luminance": Column("mean luma of the crop", "117.2", _UNWRITTEN, "0 to 255"),
    "sharpness": Column("variance of the crop's Laplacian: low is blurred", "412.5", _UNWRITTEN),
    "flags": Column(
        "notes about the crop, comma-separated: see the reason codes page", "clipped", "when there are none"
    ),
    "captured_at": MANIFEST_COLUMNS["captured_at"],
    "store_id": MANIFEST_COLUMNS["store_id"],
    "camera_id": MANIFEST_COLUMNS["camera_id"],
    "store_name": Column("name of the store, from the stores table", "Main Street", _NO_STORE),
    "city": Column("city of the store, from the stores table", "Springfield", _NO_STORE),
    "region": Column("region of the store, from the stores table", "north", _NO_STORE),
    "store_format": Column("format of the store, from the stores table", "hyper", _NO_STORE),
    "manifest": Column(
        "storage key of the manifest that announced the photo", "manifests/cams/2026-11-22/1b4f0e98.parquet"
    ),
    "manifest_row": Column("row of that manifest", "17"),
    "batch_id": Column("batch that committed the row", "b-20261122-084000-7f3a"),
    "attempt": Column("attempt of the batch that committed the row, from 1", "1"),
    "flow_run": Column("Prefect flow run that committed the row", "0f8fad5b-d9cb-469f-a165-70867728950e"),
    "committed_at": Column("when the row was committed", "2026-11-22 08:41:12", unit=_UTC),
    "captured_date": Column("day of captured_at: the table's partition", "2026-11-22", "when captured_at is", _UTC),
    "recrop_reason": Column(
        "reason code of the newest try, when it failed and this earlier crop stays", "http_404", "after a good try"
    ),
    "recrop_detail": Column("one line for people about recrop_reason", "photos.example.com: 404", "after a good try"),
    "recrop_failed_at": Column("when the newest try failed", "2026-11-23 08:41:12", "after a good try", _UTC),
}


def described(schema: pa.Schema) -> pa.Schema:
    """Return the schema with a comment on every column of the catalogue. Other columns keep what they have."""
    import pyarrow as pa

    return pa.schema(
        [
            field.with_metadata({"comment": known.comment}) if (known := CATALOGUE_COLUMNS.get(field.name)) else field
            for field in schema
        ],
        schema.metadata,
    )
