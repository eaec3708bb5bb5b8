"""The paths of our fields in an item, by names and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cropline.intake.proposals.items import photo_path
from cropline.intake.proposals.proposal import Proposal, at_path, jmespath_of, key, leaves, number_of, shown
from cropline.intake.proposals.times import is_time, propose_times

_IDS = ("id", "imageid", "photoid", "pictureid", "uuid", "guid", "assetid", "fileid", "frameid", "identifier", "key", "name",
        "filename")  # fmt: skip
_VERSIONS = ("etag", "sha256", "version", "hash", "checksum", "md5", "revision", "rev", "digest")
_UPDATED = ("updatedat", "updated", "modifiedat", "modified", "changedat", "changed", "lastmodified", "lastupdated",
            "updatetime", "mtime", "processedat", "finishedat")  # fmt: skip
_CAPTURED = ("capturedat", "captured", "takenat", "taken", "shotat", "capturetime", "phototime", "datetaken", "recordedat",
             "timestamp", "createdat", "created", "createtime", "uploadedat", "datetime", "date", "time")  # fmt: skip
_STORES = ("storeid", "shopid", "outletid", "siteid", "locationid", "store", "shop", "outlet", "site", "location")
_CAMERAS = ("cameraid", "deviceid", "coolerid", "sensorid", "camera", "device", "cam", "cooler")
_NUMBERS = {
    "width": ("width", "imagewidth", "imgwidth", "w"),
    "height": ("height", "imageheight", "imgheight", "h"),
    "bytes": ("bytes", "size", "filesize", "sizebytes", "contentlength"),
}
_OWN_VERSION = "etag || sha256 || updated_at"
_MOST_NAMES = 2  # deeper numbers are of boxes
Path = tuple[str, ...]


def propose_fields(
    items: Sequence[dict[str, Any]], url_base: str, api_url: str, *, one_box_each: bool
) -> list[Proposal]:
    """Return the paths of the fields of items that differ from the defaults, and the format of their times."""
    paths = _paths(items, nested=("parent",))
    own = {path: values for path, values in paths.items() if path[0] != "parent"}
    found: list[Proposal] = []
    photo = photo_path(items[0]) or ()
    found += _address(items, photo, url_base, api_url)
    found.append(_image_id(own, photo, len(items), one_box_each=one_box_each))
    captured, updated = _named(own, _CAPTURED, is_time), _named(own, _UPDATED, is_time)
    found += _times(captured, updated, own)
    found.append(_version(own, photo, None if one_box_each else updated or captured))
    found += _places(paths)
    found += [
        Proposal(f"fields.{ours}", jmespath_of(path), shown(own[path][0]))
        for ours, names in _NUMBERS.items()
        if not one_box_each and (path := _named(own, names, _is_number)) is not None and len(path) <= _MOST_NAMES
    ]
    return [one for one in found if one is not None]


def _paths(items: Sequence[dict[str, Any]], nested: Path) -> dict[Path, list[Any]]:
    """Return the values of each path, those that most items have."""
    values: dict[Path, list[Any]] = {}
    for item in items:
        for path, value in leaves(item):
            if value is not None and not isinstance(value, list | dict):
                values.setdefault(path, []).append(value)
    return {path: found for path, found in values.items() if 2 * len(found) > len(items) or path[0] in nested}


def _named(paths: dict[Path, list[Any]], names: Sequence[str], fits: Any) -> Path | None:
    """Return the path whose name comes first in ``names``, the shallowest of several, if its values fit.

    ``shop.id`` has the name shopid too.
    """
    for name in names:
        hits = [
            path for path in paths if name in (key(path[-1]), key("".join(path[-2:]))) and all(map(fits, paths[path]))
        ]
        if hits:
            return min(hits, key=len)
    return None


def _address(items: Sequence[dict[str, Any]], photo: Path, url_base: str, api_url: str) -> list[Proposal]:
    value = at_path(items[0], photo)
    found = [Proposal("fields.url", jmespath_of(photo), shown(value))]
    if not url_base and isinstance(value, str) and "://" not in value:
        found.append(
            Proposal(
                "url_base", api_url, f"{shown(value)} is relative; the API's own address is assumed", certain=False
            )
        )
    return found


def _image_id(paths: dict[Path, list[Any]], photo: Path, count: int, *, one_box_each: bool) -> Proposal:
    def is_id(value: Any) -> bool:
        return isinstance(value, str | int) and not isinstance(value, bool) and not is_time(value)

    if one_box_each:
        # The id of the item is the box's: the photo's has "image" or "photo" in its name, or it is the address.
        path = _named(paths, ("imageid", "photoid", "pictureid", "assetid", "frameid"), is_id)
        if path is None:
            return Proposal(
                "fields.image_id", jmespath_of(photo), "an item is one box: the address names the photo", certain=False
            )
        return Proposal("fields.image_id", jmespath_of(path), shown(paths[path][0]))
    for name in _IDS:
        path = _named(paths, (name,), is_id)
        if path is not None and len(path) == 1 and len(set(paths[path])) == len(paths[path]) == count:
            return Proposal(
                "fields.image_id", jmespath_of(path), f"{shown(paths[path][0])}; each of {count} items has another"
            )
    return Proposal(
        "fields.image_id", jmespath_of(photo), "no field identifies an item: the address does", certain=False
    )


def _times(captured: Path | None, updated: Path | None, paths: dict[Path, list[Any]]) -> list[Proposal | Any]:
    both = [path for path in (captured, updated) if path is not None]
    if not both:
        return [
            Proposal("fields.captured_at", "", "no field looks like a time", certain=False),
            Proposal("fields.updated_at", "", "no field looks like a time, and polls need one", certain=False),
        ]
    found = []
    for ours, path, other in (("captured_at", captured, updated), ("updated_at", updated, captured)):
        chosen = path or other or ()
        evidence = shown(paths[chosen][0])
        if path is None:
            evidence += f"; there is no other time: it stands for {ours} too"
        found.append(Proposal(f"fields.{ours}", jmespath_of(chosen), evidence, certain=path is not None))
    return [*found, *propose_times([value for path in both for value in paths[path]])]


def _version(paths: dict[Path, list[Any]], photo: Path, time: Path | None) -> Proposal:
    path = _named(paths, _VERSIONS, lambda value: isinstance(value, str | int))
    if path in (("etag",), ("sha256",)):
        return Proposal("fields.version", _OWN_VERSION, f"{path[0]}: {shown(paths[path][0])}")
    if path is not None:
        return Proposal("fields.version", jmespath_of(path), shown(paths[path][0]))
    chosen = time or photo
    return Proposal(
        "fields.version",
        jmespath_of(chosen),
        "no etag, hash or version: it stands for a change of the photo",
        certain=False,
    )


def _is_number(value: Any) -> bool:
    return number_of(value) is not None


def _places(paths: dict[Path, list[Any]]) -> list[Proposal]:
    found = []
    for ours, names in (("store_id", _STORES), ("camera_id", _CAMERAS)):
        path = _named(paths, names, lambda value: isinstance(value, str | int))
        if path is not None:
            found.append(Proposal(f"fields.{ours}", jmespath_of(path), shown(paths[path][0])))
    return found
