"""What the boxes of items are: where they stand, their format, their unit, and the paths of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cropline.intake.proposals.proposal import Proposal, at_path, jmespath_of, key, leaves, number_of, shown

# Names of the four numbers, in the order of their format.
_EDGES = (
    ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("xyxy", ("x0", "y0", "x1", "y1")),
    ("xyxy", ("minx", "miny", "maxx", "maxy")),
    ("xyxy", ("left", "top", "right", "bottom")),
    ("cxcywh", ("cx", "cy", "w", "h")),
    ("cxcywh", ("cx", "cy", "width", "height")),
    ("cxcywh", ("xcenter", "ycenter", "width", "height")),
    ("cxcywh", ("centerx", "centery", "width", "height")),
    ("xywh", ("left", "top", "width", "height")),
    ("xywh?", ("x", "y", "w", "h")),
    ("xywh?", ("x", "y", "width", "height")),
)
_NAMES = (
    "boxes",
    "detections",
    "annotations",
    "regions",
    "objects",
    "predictions",
    "labels",
    "results",
    "items",
    "products",
)
_LISTED = ("bbox", "box", "boundingbox", "rect", "rectangle", "coordinates")
_POINTS = ("points", "polygon", "vertices", "segmentation", "corners")
_OF_BOX = {
    "box_id": ("id", "boxid", "ref", "uuid", "annotationid", "detectionid", "row", "rowid", "key"),
    "label": ("label", "class", "classname", "category", "name", "labelname", "tag", "sku", "product", "type"),
    "score": ("score", "confidence", "conf", "p", "prob", "probability"),
    "rotation": ("rotation", "angle"),
}
_DEFAULT = {"box_id": "id", "label": "label", "score": "score", "rotation": "rotation"}
_Four = tuple[float, float, float, float]


@dataclass
class BoxForm:
    """Proposals for the boxes. ``fours``: their four numbers, in the order of the format; empty for polygons."""

    box_format: str
    proposals: list[Proposal] = field(default_factory=list)
    fours: list[_Four] = field(default_factory=list)
    largest: float = 0.0
    per_item: bool = False


def find_boxes(items: Sequence[dict[str, Any]]) -> BoxForm | None:
    """Return what the boxes of the items are; None when no item has any that is known."""
    for path in _box_paths(items):
        boxes = [box for item in items for box in _each(at_path(item, path))]
        form = _form(boxes)
        if form is not None:
            where = jmespath_of(path)
            form.proposals.insert(0, Proposal("fields.boxes", where, f"{len(boxes)} boxes: {shown(boxes[0])}"))
            return form
    form = _form([{k: v for k, v in item.items() if k != "parent"} for item in items])
    if form is not None:
        form.per_item = True
        form.proposals.insert(0, Proposal("group_by_image", True, "the four numbers stand in the item itself"))
    return form


def _box_paths(items: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    found: dict[tuple[str, ...], int] = {}
    for item in items:
        for path, value in [*leaves(item), *_objects(item, ())]:
            if path[0] != "parent" and _each(value):
                found[path] = found.get(path, 0) + 1
    names = {name: position for position, name in enumerate(_NAMES)}
    return sorted(found, key=lambda path: (names.get(key(path[-1]), len(names)), -found[path], len(path)))


def _objects(value: dict[str, Any], at: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    inner = [((*at, name), part) for name, part in value.items() if isinstance(part, dict) and name != "parent"]
    return [*inner, *(deeper for path, part in inner if len(path) < 3 for deeper in _objects(part, path))]


def _each(value: Any) -> list[Any]:
    """Return the boxes of a field: a list of objects or lists, an object of objects, or an object of parallel lists."""
    if isinstance(value, list):
        return value if value and all(isinstance(part, dict | list) for part in value) else []
    if not isinstance(value, dict) or not value:
        return []
    parts = list(value.values())
    if all(isinstance(part, dict) for part in parts):
        return parts
    if all(isinstance(part, list) and part and not isinstance(part[0], dict | list) for part in parts):
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)] if _even(parts) else []
    return []


def _even(parts: Sequence[list[Any]]) -> bool:
    return len({len(part) for part in parts}) == 1 and len(parts) >= 4


def _form(boxes: Sequence[Any]) -> BoxForm | None:
    if boxes and all(isinstance(box, list) for box in boxes):
        return _listed_form(boxes, None)
    objects = [box for box in boxes if isinstance(box, dict)]
    if not objects:
        return None
    paths = {key(path[-1]): path for path, _ in reversed(list(leaves(objects[0])))}
    form = _named_form(objects, paths) or _nested_list(objects, paths) or _polygons(objects, paths)
    if form is not None:
        form.proposals += _of_box(objects[0], paths)
    return form


def _named_form(boxes: Sequence[dict[str, Any]], paths: dict[str, tuple[str, ...]]) -> BoxForm | None:
    for kind, names in _EDGES:
        if not all(name in paths for name in names):
            continue
        fours = _numbers([[at_path(box, paths[name]) for name in names] for box in boxes])
        if not fours:
            continue
        certain_kind = kind.removesuffix("?")
        form = _settled(
            fours, certain_kind, ", ".join(paths[name][-1] for name in names), certain=not kind.endswith("?")
        )
        for ours, name in zip(("xmin", "ymin", "xmax", "ymax"), names, strict=True):
            path = jmespath_of(paths[name])
            if path != ours:
                form.proposals.append(Proposal(f"fields.{ours}", path, shown(at_path(boxes[0], paths[name]))))
        return form
    return None


def _nested_list(boxes: Sequence[dict[str, Any]], paths: dict[str, tuple[str, ...]]) -> BoxForm | None:
    for name in _LISTED:
        if name in paths:
            form = _listed_form([at_path(box, paths[name]) for box in boxes], jmespath_of(paths[name]))
            if form is not None:
                return form
    return None


def _listed_form(values: Sequence[Any], path: str | None) -> BoxForm | None:
    fours = _numbers([value if isinstance(value, list) else [] for value in values])
    if not fours:
        return None
    form = _settled(fours, "xyxy", f"four numbers, {shown(values[0])}", certain=False)
    if path is not None:
        for position, ours in enumerate(("xmin", "ymin", "xmax", "ymax")):
            form.proposals.append(Proposal(f"fields.{ours}", f"{path}[{position}]", shown(fours[0][position])))
    return form


def _polygons(boxes: Sequence[dict[str, Any]], paths: dict[str, tuple[str, ...]]) -> BoxForm | None:
    for name in _POINTS:
        if name not in paths:
            continue
        numbers = [number for box in boxes for number in _flat(at_path(box, paths[name]))]
        if len(numbers) >= 6:
            form = BoxForm("polygon", largest=max(numbers))
            form.proposals.append(Proposal("box_format", "polygon", f"{paths[name][-1]} holds points"))
            evidence = shown(at_path(boxes[0], paths[name]))
            form.proposals.append(Proposal("fields.polygon", jmespath_of(paths[name]), evidence))
            return form
    return None


def _flat(value: Any) -> list[float]:
    if isinstance(value, list):
        return [number for part in value for number in _flat(part)]
    if isinstance(value, dict):
        return [number for part in value.values() for number in _flat(part)]
    number = number_of(value)
    return [] if number is None else [number]


def _numbers(rows: Sequence[Sequence[Any]]) -> list[_Four]:
    """Return rows of four numbers; none when most rows are something else."""
    found = [
        (a, b, c, d)
        for row in rows
        if len(row) == 4
        for a, b, c, d in [[number_of(value) for value in row]]
        if a is not None and b is not None and c is not None and d is not None
    ]
    return found if found and 2 * len(found) > len(rows) else []


def _settled(fours: list[_Four], kind: str, names: str, *, certain: bool) -> BoxForm:
    """Return the format that the numbers allow: where names leave two, a box outside the photo rules one out."""
    evidence = names
    inverted = sum(c <= a or d <= b for a, b, c, d in fours)
    outside = sum(a - c / 2 < 0 or b - d / 2 < 0 for a, b, c, d in fours)
    if not certain and kind == "xyxy":
        if inverted:
            kind, certain, evidence = "xywh", True, f"{names}; as corners, {inverted} boxes would be inverted"
        else:
            certain, evidence = len(fours) > 1, f"{names}; no box of {len(fours)} is inverted"
    elif not certain and kind == "xywh":
        if outside:
            certain, evidence = True, f"{names}; as centres, {outside} boxes would stick out of the photo"
        elif _reach(fours, "xywh") > 1 >= _reach(fours, "cxcywh") and max(a for a, *_ in fours) <= 1:
            kind, certain, evidence = "cxcywh", True, f"{names}; as corners, boxes would stick out of the photo"
        else:
            evidence = f"{names}; centres (cxcywh) would fit too"
    form = BoxForm(kind, fours=fours, largest=_reach(fours, kind))
    form.proposals.append(Proposal("box_format", kind, evidence, certain))
    return form


def _reach(fours: Sequence[_Four], kind: str) -> float:
    """Return the largest right or bottom edge."""
    if kind == "xyxy":
        return max(max(c, d) for _, _, c, d in fours)
    part = 1 if kind == "xywh" else 2
    return max(max(a + c / part, b + d / part) for a, b, c, d in fours)


def _of_box(box: dict[str, Any], paths: dict[str, tuple[str, ...]]) -> list[Proposal]:
    proposals = []
    for ours, names in _OF_BOX.items():
        path = next((paths[name] for name in names if name in paths), None)
        if path is not None and (where := jmespath_of(path)) != _DEFAULT[ours]:
            proposals.append(Proposal(f"fields.{ours}", where, shown(at_path(box, path))))
    return proposals


def propose_unit(form: BoxForm, declared: Sequence[tuple[float, float]], photo: tuple[int, int] | None) -> Proposal:
    """Return the unit of the boxes. ``declared``: widths and heights that items give. ``photo``: one photo's real size."""
    most = form.largest
    if most <= 1.05:
        return Proposal("coordinates", "normalised", f"no edge is above {most:g}")
    if most > 105:
        return Proposal("coordinates", "pixels", f"edges reach {most:g}")
    size = photo or next(iter(declared), None)
    if size is None:
        return Proposal(
            "coordinates",
            "pixels",
            f"edges reach {most:g}, and no size of a photo is known; percent fits too",
            certain=False,
        )
    if min(size) > 4 * most:
        text = f"edges reach {most:g} only, on a photo of {size[0]:g} x {size[1]:g} px"
        return Proposal("coordinates", "percent", text, certain=most > 50)
    return Proposal("coordinates", "pixels", f"edges reach {most:g} on a photo of {size[0]:g} x {size[1]:g} px")
