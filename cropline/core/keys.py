"""Identities: what makes two pieces of work the same, and where a crop's bytes lie.

Belongs here: hashes and object keys, as pure functions of their arguments. Does not: any reading of settings or storage.
Changing a function here changes what "the same work" means for every user: the state table would re-crop everything.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

CROPS = "crops"
"""Prefix of all crops' keys; below it a folder a profile, in it one a source and image, see image_key."""

RESCALED = "rescaled"
"""The flag of a crop whose box was scaled from the size that the API declares to the one that the photo has."""

FRAMES = "frames"
"""Prefix of the crops of frames. Not below CROPS, where maintenance removes what no batch knows."""

_UNSAFE = re.compile(r"[^a-z0-9_-]+")
_BOX_FIELDS = ("box_id", "xmin", "ymin", "xmax", "ymax", "label")


def digest(*parts: str) -> str:
    """SHA-256 in hex of the parts, each preceded by its length, so that no two lists of parts run together."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        sha.update(f"{len(data)}:".encode())
        sha.update(data)
    return sha.hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=True)


def content_hash(version: str, coordinates: str, orientation: str, boxes: Iterable[Mapping[str, Any]]) -> str:
    """What an image's crops depend on besides the profile: its version and its boxes, in their order.

    A box's score is left out: a detector that only grows surer does not change a crop.
    """
    rows = [[box.get(name) for name in _BOX_FIELDS] for box in boxes]
    return digest(version, coordinates, orientation, canonical_json(rows))


def metadata_hash(
    store_id: str | None, camera_id: str | None, captured_at: datetime | None, boxes: Iterable[Mapping[str, Any]]
) -> str:
    """What an image's rows tell beside its crops: where and when it was taken, and how sure of each box somebody is."""
    taken_at = captured_at.astimezone(UTC).isoformat() if captured_at else None
    return digest(canonical_json([store_id, camera_id, taken_at, [box.get("score") for box in boxes]]))


def fingerprint(content: str, profile_hash: str) -> str:
    """The name of a piece of work: one image's content cut by one profile (hex, 64)."""
    return digest(content, profile_hash)


def box_fingerprint(
    version: str | None,
    coordinates: str,
    orientation: str,
    box: Mapping[str, Any],
    profile_hash: str,
    rescaled_from: tuple[int, int] | None = None,
) -> str | None:
    """The name of the work of one box: its crop is the same wherever this is. None without a version: nothing is known.

    Other boxes and the label are left out: they change no pixel of it. ``rescaled_from``: the declared size (px), where the
    box was scaled from it to the photo's.
    """
    if not version:
        return None
    place = canonical_json([box.get(name) for name in _BOX_FIELDS[:-1]])
    size = [] if rescaled_from is None else [f"{rescaled_from[0]} x {rescaled_from[1]}"]
    return digest(version, coordinates, orientation, place, profile_hash, *size)


def safe_name(identifier: str, *, keep: int = 40) -> str:
    """A path segment for an identifier from outside: readable, at most ``reuse_crops`` + 17 characters, distinct.

    The hash is of the exact code points, so ``../``, NUL, 1 KB ids, NFC against NFD and case twins all stay
    distinct, on case-insensitive stores too.
    """
    readable = _UNSAFE.sub("-", identifier.lower()).strip("-")[:keep].strip("-")
    return f"{readable}-{digest(identifier)[:16]}" if readable else digest(identifier)[:16]


def image_key(source: str, image_id: str) -> str:
    """Short, safe and distinct name of an image, as used in object keys."""
    return f"{safe_name(source, keep=20)}/{safe_name(image_id)}"


def crop_key(
    source: str, image_id: str, profile: str, fingerprint_: str, box_index: int, box_id: str, extension: str
) -> str:
    """Object key of one crop below the storage root.

    It holds the fingerprint: another version of the image never overwrites it, the same work writes the same key.
    It holds the box's position: a photo whose boxes share an id still has one key a box.
    """
    box = f"{box_index:04d}-{safe_name(box_id, keep=24)}"
    return f"{CROPS}/{safe_name(profile, keep=20)}/{image_key(source, image_id)}/{fingerprint_[:20]}/{box}.{extension}"


def frame_crop_key(
    image_sha256: str, fingerprint_: str, edges: tuple[int, int, int, int], crop_sha256: str, extension: str
) -> str:
    """Object key of a crop of a frame's row, below the storage root: of the image's bytes, the place and the crop's bytes.

    No row number and no URL goes in: the same image gives the same key wherever its row stands, however its URL is signed.
    """
    place = "-".join(map(str, edges))
    return f"{FRAMES}/{fingerprint_[:12]}/{image_sha256[:32]}/{place}-{crop_sha256[:16]}.{extension}"
