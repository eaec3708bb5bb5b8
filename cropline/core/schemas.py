"""The shapes that pass between steps, as Arrow schemas. What a column means is said here once.

Belongs here: schemas and the conversions that follow from them alone. Does not: reading or writing them.

MANIFEST   one row an image, boxes nested; what one poll brought (land -> validate -> register -> crop)
CLAIM      one row an image of a batch, its claimed profiles nested (claim -> crop)
STORES     one row a store: the metadata that the default script joins
IMAGES     MANIFEST columns the job needs + CLAIM + STORES: what the transformer is handed
CROPS      one flat row a box and profile: what the transformer gives back and the catalogue keeps
"""

import pyarrow as pa

BOX = pa.struct(
    [
        ("box_id", pa.string()),
        # As they came: 0..1 or pixels, see MANIFEST.coordinates.
        ("xmin", pa.float64()),
        ("ymin", pa.float64()),
        ("xmax", pa.float64()),
        ("ymax", pa.float64()),
        ("label", pa.string()),
        ("score", pa.float64()),
    ]
)

UTC = pa.timestamp("us", tz="UTC")

MANIFEST = pa.schema(
    [
        ("row", pa.int64()),  # position in this manifest, from 0: the key that quarantine and trace use
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("version", pa.string()),  # the API's etag, else sha256, else updated_at
        ("url", pa.string()),  # may be signed: never leaves the manifest
        ("captured_at", UTC),
        ("updated_at", UTC),
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        ("width", pa.int64()),  # px, of the upright picture: what boxes in pixels were measured in
        ("height", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("coordinates", pa.string()),  # normalised | pixels
        ("orientation", pa.string()),  # upright | stored
        ("boxes", pa.list_(BOX)),
        (
            "item_digest",
            pa.string(),
        ),  # of the item as it came, query strings cut: the same item polled again is the same
        ("content_hash", pa.string()),  # of version, geometry convention and boxes: see keys.content_hash
        ("attributes", pa.string()),  # JSON object: the fields that cropline does not know
        ("unreadable", pa.list_(pa.string())),  # our fields whose value could not be converted
        ("raw", pa.string()),  # the item as it came, as JSON, so that it can be mapped again; null when it is too long
    ]
)

WORK = pa.struct(
    [
        ("profile", pa.string()),
        ("profile_hash", pa.string()),
        ("fingerprint", pa.string()),
        ("recipe", pa.string()),  # the profile as JSON, as it stood when the batch was claimed
        ("only", pa.list_(pa.int64())),  # positions of the boxes to cut; the others have their crops already; null: all
    ]
)

CLAIM = pa.schema(
    [
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("manifest", pa.string()),  # storage key of the manifest
        ("manifest_row", pa.int64()),
        ("work", pa.list_(WORK)),
    ]
)

STORES = pa.schema(
    [
        ("store_id", pa.string()),
        ("store_name", pa.string()),
        ("city", pa.string()),
        ("region", pa.string()),
        ("store_format", pa.string()),
    ]
)

# What goes into the engine. Timestamps stay outside it: engines disagree about time zones, so they travel as ISO 8601.
IMAGES = pa.schema(
    [
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("manifest", pa.string()),
        ("manifest_row", pa.int64()),
        ("version", pa.string()),
        ("url", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("coordinates", pa.string()),
        ("orientation", pa.string()),
        ("captured_at", pa.string()),
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        ("boxes", pa.list_(BOX)),
        ("work", pa.list_(WORK)),
        ("store_name", pa.string()),
        ("city", pa.string()),
        ("region", pa.string()),
        ("store_format", pa.string()),
    ]
)

# Flat on purpose: nested output columns make Spark fall back to RDDs.
CROPS = pa.schema(
    [
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("version", pa.string()),
        ("profile", pa.string()),
        ("profile_hash", pa.string()),
        ("fingerprint", pa.string()),
        ("box_fingerprint", pa.string()),  # of what this one crop depends on; null when the image has no version
        ("box_id", pa.string()),
        ("box_index", pa.int64()),  # position in the image's boxes, from 0
        ("status", pa.string()),  # written | failed | skipped
        ("reason", pa.string()),  # a code of failures.py; null when written
        ("detail", pa.string()),  # one scrubbed line for people; null when written
        ("retry_after_s", pa.int64()),  # what the server asked for, when it did
        ("key", pa.string()),  # the crop's name for good, and its object key when shard is null; null unless written
        ("shard", pa.string()),  # object key of the pack that holds it; null: it is an object of its own
        ("offset", pa.int64()),  # where its bytes begin in the shard; bytes says how many
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int64()),  # px of the crop as written
        ("height", pa.int64()),
        ("format", pa.string()),
        ("left", pa.int64()),  # px in the upright picture, after padding, rounding and clipping
        ("top", pa.int64()),
        ("right", pa.int64()),
        ("bottom", pa.int64()),
        ("xmin", pa.float64()),  # the box as it came
        ("ymin", pa.float64()),
        ("xmax", pa.float64()),
        ("ymax", pa.float64()),
        ("label", pa.string()),
        ("score", pa.float64()),
        ("image_width", pa.int64()),  # px of the upright picture as decoded
        ("image_height", pa.int64()),
        ("image_sha256", pa.string()),  # of the bytes that were fetched
        ("image_bytes", pa.int64()),
        ("decoder", pa.string()),  # regions, or pillow with the reason ("pillow: progressive"); null: not decoded
        (
            "image_phash",
            pa.string(),
        ),  # perceptual hash of the photo, see phash.py; null: nothing of it was cut, or only some boxes
        ("luminance", pa.float64()),  # mean of the crop's luma, 0..255
        ("sharpness", pa.float64()),  # variance of the crop's luma's edges
        ("flags", pa.string()),  # comma-separated notes: clipped, rescaled, damaged_photo, ... (docs/pixels.md)
        ("captured_at", pa.string()),  # ISO 8601, UTC
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        ("store_name", pa.string()),
        ("city", pa.string()),
        ("region", pa.string()),
        ("store_format", pa.string()),
        ("manifest", pa.string()),
        ("manifest_row", pa.int64()),
    ]
)

_FUGUE_NAMES = {pa.string(): "str", pa.int64(): "long", pa.float64(): "double"}


def fugue_expression(schema: pa.Schema) -> str:
    """The schema as Fugue writes it (``a:str,b:[{c:double}]``), for SCHEMA clauses and transformer hints.

    Only what engine frames use is known: strings, 64-bit numbers, structs and lists of these.
    """
    return ",".join(f"{field.name}:{_fugue_type(field.type)}" for field in schema)


def _fugue_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"[{_fugue_type(kind.value_type)}]"
    if pa.types.is_struct(kind):
        return (
            "{"
            + ",".join(f"{kind.field(i).name}:{_fugue_type(kind.field(i).type)}" for i in range(kind.num_fields))
            + "}"
        )
    return _FUGUE_NAMES[kind]
