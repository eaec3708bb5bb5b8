"""Fingerprints, hashes and object keys, as pure functions of their arguments.

A change to a function here changes what "the same work" means for every user: everything would be cropped again.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

CROPS = "crops"
"""Prefix of all crop keys. Below it are folders per profile, then per source and image (see image_key)."""

RESCALED = "rescaled"
"""Flag of a crop whose box was scaled from the size that the API declares to the photo's actual size."""

FRAMES = "frames"
"""Prefix of crops from DataFrames. Not below CROPS, where maintenance removes crops that no batch knows."""

_UNSAFE = re.compile(r"[^a-z0-9_-]+")
_BOX_FIELDS = ("box_id", "xmin", "ymin", "xmax", "ymax", "label")


def digest(*parts: str) -> str:
    """Return the SHA-256 (hex) of the parts. Each is preceded by its length, so different lists never collide."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        sha.update(f"{len(data)}:".encode())
        sha.update(data)
    return sha.hexdigest()


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=True)


def content_hash(version: str, coordinates: str, orientation: str, boxes: Iterable[Mapping[str, Any]]) -> str:
    """Return the hash of what an image's crops depend on besides the profile: its version and its boxes, in order.

    A box's score is left out: it does not change a crop.
    """
    rows = [[box.get(name) for name in _BOX_FIELDS] for box in boxes]
    return digest(version, coordinates, orientation, canonical_json(rows))


def metadata_hash(
    store_id: str | None, camera_id: str | None, captured_at: datetime | None, boxes: Iterable[Mapping[str, Any]]
) -> str:
    """Return the hash of an image's metadata that changes rows but no crop: store, camera, time and scores."""
    taken_at = captured_at.astimezone(UTC).isoformat() if captured_at else None
    return digest(canonical_json([store_id, camera_id, taken_at, [box.get("score") for box in boxes]]))


def fingerprint(content: str, profile_hash: str) -> str:
    """Return the identity of a work item's content: one image's content cut by one profile (64 hex digits)."""
    return digest(content, profile_hash)


def box_fingerprint(
    version: str | None,
    coordinates: str,
    orientation: str,
    box: Mapping[str, Any],
    profile_hash: str,
    rescaled_from: tuple[int, int] | None = None,
) -> str | None:
    """Return the identity of one box's crop: equal fingerprints mean equal crops. None when the image has no version.

    Other boxes and the label are left out: they do not change its pixels. ``rescaled_from``: the declared
    size (px) when the box was scaled from that size to the photo's.
    """
    if not version:
        return None
    place = canonical_json([box.get(name) for name in _BOX_FIELDS[:-1]])
    size = [] if rescaled_from is None else [f"{rescaled_from[0]} x {rescaled_from[1]}"]
    return digest(version, coordinates, orientation, place, profile_hash, *size)


def safe_name(identifier: str, *, keep: int = 40) -> str:
    """Return a path segment for an external identifier: readable, unique, at most ``keep`` + 17 characters.

    The hash is of the exact code points. So ``../``, NUL, 1 KB ids, NFC and NFD, and case variants all stay distinct,
    on case-insensitive stores too.
    """
    readable = _UNSAFE.sub("-", identifier.lower()).strip("-")[:keep].strip("-")
    return f"{readable}-{digest(identifier)[:16]}" if readable else digest(identifier)[:16]


def image_key(source: str, image_id: str) -> str:
    """Return a short, safe and unique name of an image for object keys."""
    return f"{safe_name(source, keep=20)}/{safe_name(image_id)}"


def crop_key(
    source: str, image_id: str, profile: str, fingerprint_: str, box_index: int, box_id: str, extension: str
) -> str:
    """Return the object key of one crop, relative to the storage root.

    It contains the fingerprint: another version of the image never overwrites it, and the same work writes
    the same key. It contains the box's position: boxes that share an id still have separate keys.
    """
    folder = _crop_folder(source, image_id, profile, fingerprint_)
    return f"{folder}/{box_index:04d}-{safe_name(box_id, keep=24)}.{extension}"


@lru_cache(maxsize=64)
def _crop_folder(source: str, image_id: str, profile: str, fingerprint_: str) -> str:
    """Return the folder of an image's crops. It is asked for once for each crop, and takes longer than the rest of the key."""
    return f"{CROPS}/{safe_name(profile, keep=20)}/{image_key(source, image_id)}/{fingerprint_[:20]}"


def frame_crop_key(
    image_sha256: str, fingerprint_: str, edges: tuple[int, int, int, int], crop_sha256: str, extension: str
) -> str:
    """Return the object key of a crop from a DataFrame, relative to the storage root.

    It depends on the image's bytes, the edges and the crop's bytes, not on the row number or the URL. So the same image
    has the same key in any row and with any signature in its URL.
    """
    place = "-".join(map(str, edges))
    return f"{FRAMES}/{fingerprint_[:12]}/{image_sha256[:32]}/{place}-{crop_sha256[:16]}.{extension}"
