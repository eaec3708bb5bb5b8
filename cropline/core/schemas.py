"""The Arrow schemas of the data that passes between steps. columns.py explains their columns.

MANIFEST   one row per image, boxes nested: what one poll returned (land -> validate -> register -> crop)
CLAIM      one row per image of a batch, its claimed profiles nested (claim -> crop)
STORES     one row per store: the metadata that the default script joins
IMAGES     MANIFEST columns the job needs + CLAIM + STORES: the input of the transformer
CROPS      one flat row per box and profile: the output of the transformer, kept in the catalogue
"""

import pyarrow as pa

BOX = pa.struct(
    [
        ("box_id", pa.string()),
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
        ("row", pa.int64()),
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("version", pa.string()),
        ("url", pa.string()),
        ("captured_at", UTC),
        ("updated_at", UTC),
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("coordinates", pa.string()),  # normalised | pixels
        ("orientation", pa.string()),  # upright | stored
        ("boxes", pa.list_(BOX)),
        ("item_digest", pa.string()),
        ("content_hash", pa.string()),
        ("attributes", pa.string()),
        ("unreadable", pa.list_(pa.string())),
        ("raw", pa.string()),
    ]
)

WORK = pa.struct(
    [
        ("profile", pa.string()),
        ("profile_hash", pa.string()),
        ("fingerprint", pa.string()),
        ("recipe", pa.string()),  # the profile as JSON at the time of the claim
        ("only", pa.list_(pa.int64())),  # positions of the boxes to cut; null: all. The others have their crops
    ]
)

CLAIM = pa.schema(
    [
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("manifest", pa.string()),  # storage key
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

# Input of the engine. Times are ISO 8601 text: engines disagree about time zones.
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
        ("box_fingerprint", pa.string()),
        ("box_id", pa.string()),
        ("box_index", pa.int64()),
        ("status", pa.string()),  # written | failed | skipped
        ("reason", pa.string()),  # a code of failures.py
        ("detail", pa.string()),  # scrubbed
        ("retry_after_s", pa.int64()),
        ("key", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("format", pa.string()),
        ("left", pa.int64()),
        ("top", pa.int64()),
        ("right", pa.int64()),
        ("bottom", pa.int64()),
        ("box_left", pa.int64()),
        ("box_top", pa.int64()),
        ("xmin", pa.float64()),
        ("ymin", pa.float64()),
        ("xmax", pa.float64()),
        ("ymax", pa.float64()),
        ("label", pa.string()),
        ("score", pa.float64()),
        ("image_width", pa.int64()),
        ("image_height", pa.int64()),
        ("image_sha256", pa.string()),
        ("image_bytes", pa.int64()),
        ("decoder", pa.string()),
        ("image_phash", pa.string()),  # format: phash.py
        ("luminance", pa.float64()),
        ("sharpness", pa.float64()),
        ("flags", pa.string()),
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

_FUGUE_NAMES = {
    pa.string(): "str",
    pa.int64(): "long",
    pa.float64(): "double",
    pa.int32(): "int",
    pa.float32(): "float",
    pa.bool_(): "bool",
    pa.binary(): "bytes",
}


def fugue_expression(schema: pa.Schema) -> str:
    """Return the schema as Fugue writes it (``a:str,b:[{c:double}]``), for SCHEMA clauses and transformer hints.

    It knows the types of engine frames only: strings, numbers, bytes, structs and lists of these.
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
