"""JSON files that are parsed whole: lists of items, COCO and exports of Label Studio."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

from cropline.config.api import ApiSettings
from cropline.core.keys import canonical_json, digest
from cropline.intake.item_values import read_number
from cropline.intake.json_bytes import read_json
from cropline.intake.sources.formats.broken import FileError, broken

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_document(file: BinaryIO, api: ApiSettings) -> Any:
    """Return a JSON file. Raise FileError when it is larger than max_page_bytes, or not JSON."""
    data = file.read(api.max_page_bytes + 1)
    if len(data) > api.max_page_bytes:
        raise FileError(
            f"is larger than {api.max_page_bytes} bytes, and is read whole; raise CROPLINE_API__MAX_PAGE_BYTES, "
            "or write JSON lines"
        )
    failure: FileError
    try:
        return read_json(data)
    except ValueError as error:
        failure = FileError(f"is not JSON ({getattr(error, 'msg', None) or 'nested too deep'})")
    raise failure


def read_items(file: BinaryIO, api: ApiSettings) -> Generator[Any, None, None]:
    """Yield the items of a JSON list, or of an object at data_selector."""
    document = read_document(file, api)
    if isinstance(document, list):
        yield from document
        return
    from dlt.common import jsonpath

    found = [value for value in jsonpath.find_values(api.data_selector, document) if isinstance(value, list)]
    if not found:
        raise FileError("is not a list, and has none at CROPLINE_API__DATA_SELECTOR")
    for items in found:
        yield from items


def read_coco(file: BinaryIO, api: ApiSettings) -> Generator[Any, None, None]:
    """Yield one item per image of a COCO file, with its fields and: id and url (its file_name), captured_at, boxes.

    Its ids are unique in one file only, so they are in coco_id. A box has its annotation's fields and: label (the
    category's name), xmin, ymin, xmax, ymax (its bbox: x, y, width, height in pixels).
    """
    document = read_document(file, api)
    parts = [document.get(name) for name in ("images", "annotations")] if isinstance(document, dict) else [None]
    if not all(isinstance(part, list) for part in parts):
        raise FileError("is not COCO: it has no lists images and annotations")
    images, annotations = (part or [] for part in parts)
    labels = _labels(document.get("categories"))
    boxes: dict[str, list[dict[str, Any]]] = {}
    for number, one in enumerate(annotations):
        if isinstance(one, dict):
            boxes.setdefault(canonical_json(one.get("image_id")), []).append(_coco_box(one, labels))
        else:
            yield broken(f"annotation {number} is not an object", str(one))
    for number, image in enumerate(images):
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str):
            yield broken(f"image {number} has no file_name", canonical_json(image))
            continue
        own = boxes.pop(canonical_json(image.get("id")), [])
        address = image.get("coco_url") or image.get("flickr_url") or name
        yield {
            **image,
            "id": name,
            "coco_id": image.get("id"),
            "url": image.get("url") or address,
            "captured_at": image.get("captured_at") or image.get("date_captured"),
            "etag": image.get("etag") or _version(image),
            "boxes": own,
        }
    for image_id, lost in boxes.items():
        yield broken(f"{len(lost)} annotations name image {image_id[:60]}, which the file does not have", str(lost))


def _labels(categories: Any) -> dict[str, Any]:
    found = categories if isinstance(categories, list) else []
    return {canonical_json(one.get("id")): one.get("name") for one in found if isinstance(one, dict)}


def _coco_box(one: dict[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
    box = {name: value for name, value in one.items() if name not in ("bbox", "segmentation", "image_id")}
    bbox = one.get("bbox")
    sides = bbox if isinstance(bbox, list) and len(bbox) == 4 else [_polygon_box(one.get("segmentation"), bbox)] * 4
    label = labels.get(canonical_json(one.get("category_id")))
    known = label if label is not None else one.get("category_id")
    return {**box, "label": None if known is None else str(known), **dict(zip(_SIDES, sides, strict=True))}


def _polygon_box(segmentation: Any, bbox: Any) -> Any:
    """Return a value that is no number: an annotation without a bbox is quarantined, whatever its mask says."""
    return f"no bbox: {canonical_json(bbox if bbox is not None else segmentation)[:60]}"


def _version(image: dict[str, Any]) -> str:
    return digest(canonical_json(image))[:32]


def read_label_studio(file: BinaryIO, api: ApiSettings) -> Generator[Any, None, None]:
    """Yield one item per task of a Label Studio export (JSON or JSON-MIN).

    It has the task's data and: id, url, updated_at, captured_at, boxes of its newest annotation (x, y, width, height in
    percent, and rotation). Tasks without an annotation are left out.
    """
    document = read_document(file, api)
    if not isinstance(document, list):
        raise FileError("is not an export of Label Studio: it is no list of tasks")
    for number, task in enumerate(document):
        if not isinstance(task, dict):
            yield broken(f"task {number} is not an object", str(task))
            continue
        given = task.get("data")
        data: dict[str, Any] = given if isinstance(given, dict) else task
        results, updated = _results(task)
        if results is None:
            continue
        url = _task_url(data)
        yield {
            **{name: value for name, value in data.items() if name not in ("annotations", "label", "predictions")},
            "id": task.get("id", data.get("id")),
            "url": url,
            "etag": data.get("etag") or (digest(url)[:32] if url else None),
            "updated_at": updated or task.get("updated_at"),
            "captured_at": data.get("captured_at") or task.get("created_at") or updated,
            "width": data.get("width") or _side(results, "original_width"),
            "height": data.get("height") or _side(results, "original_height"),
            "boxes": [box for result in results if (box := _result_box(result)) is not None],
        }


def _results(task: dict[str, Any]) -> tuple[list[Any] | None, Any]:
    """Return the results of the newest annotation that was not cancelled, and its time; None when there is none."""
    if "annotations" not in task:
        label = task.get("label")
        return (label, task.get("updated_at")) if isinstance(label, list) else (None, None)
    given = task["annotations"] if isinstance(task["annotations"], list) else []
    done = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]
    if not done:
        return None, None
    newest = max(done, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
    results = newest.get("result")
    return (results if isinstance(results, list) else []), newest.get("updated_at") or newest.get("created_at")


def _task_url(data: dict[str, Any]) -> str | None:
    known = [data[name] for name in ("image", "img", "photo", "url", "$undefined$") if isinstance(data.get(name), str)]
    if not known:
        return None
    url = str(known[0])
    parts = urlsplit(url)
    if parts.path.endswith("/data/local-files/"):  # its own server of local files: the path below its root
        return (parse_qs(parts.query).get("d") or [url])[0]
    return url


def _side(results: list[Any], name: str) -> Any:
    return next((one[name] for one in results if isinstance(one, dict) and one.get(name)), None)


def _result_box(result: Any) -> dict[str, Any] | None:
    """Return a rectangle, the box around a polygon or an ellipse; None for results that are no regions."""
    if not isinstance(result, dict):
        return dict.fromkeys(_SIDES, "not an object")
    value = result["value"] if isinstance(result.get("value"), dict) else result
    kind = str(result.get("type") or next((name for name in value if name.endswith("labels")), ""))
    sides = _region(value)
    if sides is None:
        return dict.fromkeys(_SIDES, "a brush") if "rle" in value else None
    names: list[Any] = next(
        (value[name] for name in value if name.endswith("labels") and isinstance(value[name], list)), []
    )
    box = {"id": result.get("id"), "label": names[0] if names else None, "type": kind, "score": result.get("score")}
    turn = {} if "points" in value else {"rotation": value.get("rotation")}
    return {**box, **dict(zip(_SIDES, sides, strict=True)), **turn}


def _region(value: dict[str, Any]) -> list[Any] | None:
    if isinstance(value.get("points"), list):
        numbers = [[read_number(part) for part in point] for point in value["points"] if isinstance(point, list)]
        if not numbers or any(len(point) != 2 or not all(isinstance(n, float) for n in point) for point in numbers):
            return ["not a polygon"] * 4
        xs, ys = zip(*numbers, strict=True)
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    if "radiusX" in value:
        x, y, wide, high = (read_number(value.get(name)) for name in ("x", "y", "radiusX", "radiusY"))
        if not all(isinstance(number, float) for number in (x, y, wide, high)) or value.get("rotation"):
            return ["no ellipse, or a rotated one"] * 4
        return [x - wide, y - high, 2 * wide, 2 * high]
    if "width" in value and "x" in value:
        return [value.get(name) for name in ("x", "y", "width", "height")]
    return None
