"""The options of the front door, parsed and checked before anything is fetched."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import ValidationError

from cropline.config.profile import Profile
from cropline.config.settings import Settings, load_installation
from cropline.config.storage import StorageSettings
from cropline.core.crop_options import FetchOptions, PictureOptions
from cropline.core.errors import OptionError, StorageError
from cropline.core.scrub import one_line
from cropline.core.storage import check_writable
from cropline.core.store_spec import StoreSpec
from fugue_jobs.frame.function import Extras, Function, with_function

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
Units = Literal["normalised", "pixels", "percent"]

# Default names of the four numbers of a box.
EDGES: Mapping[str, tuple[str, str, str, str]] = {
    "xyxy": ("xmin", "ymin", "xmax", "ymax"),
    "xywh": ("x", "y", "w", "h"),
    "cxcywh": ("cx", "cy", "w", "h"),
}
# Default names of the column of images; the frame must have exactly one of them.
IMAGES = ("ImgUrl", "image", "image_url", "img_url", "url")
# Default names of a column of whole boxes, for frames without four columns of numbers.
WHOLE = ("boxes", "box", "bbox")

_T = TypeVar("_T", bound=str)


@dataclass(frozen=True)
class Columns:
    """The frame's columns by role. ``box``: one column of whole boxes, or of all boxes of an image."""

    image: Hashable
    edges: tuple[Hashable, Hashable, Hashable, Hashable] | None
    box: Hashable | None
    label: Hashable | None

    @property
    def of_boxes(self) -> tuple[Hashable, ...]:
        return self.edges if self.edges is not None else (self.box,)


@dataclass(frozen=True)
class Options:
    """What a worker needs besides the rows. Picklable. Secrets are only inside ``fetch``, whose repr hides them."""

    store: StoreSpec | None
    profile: Profile
    fetch: FetchOptions
    pictures: PictureOptions
    boxes: BoxFormat
    units: Units
    columns: Mapping[str, Any]
    prefix: str
    files: str | None
    partitions: int
    processes: int
    functions: tuple[tuple[str, bytes], ...] = ()  # pickled functions, by the name that steps use
    ship: tuple[str, ...] = ()  # modules that travel to the workers of a cluster

    @property
    def extras(self) -> dict[str, str]:
        """The columns that functions return: name and type."""
        return {name: kind for step in self.profile.steps for name, kind in step.columns.items()}


def read_options(
    *,
    store: str | Path | None = None,
    profile: Profile | Mapping[str, Any] | str | None = None,
    boxes: str = "xyxy",
    units: str = "normalised",
    columns: Mapping[str, Any] | str | None = None,
    prefix: str = "crop_",
    files: str | Path | None = None,
    partitions: int = 0,
    processes: int = 0,
    function: Function | None = None,
    extras: Extras | None = None,
    version: str | None = None,
    **unknown: object,
) -> Options:
    """Return the parsed options, completed from the settings. Raise OptionError with one line."""
    if unknown:
        raise OptionError(f"{min(unknown)}: no such option")
    settings = load_installation()
    recipe, functions = with_function(_profile(profile, settings), function, extras, version)
    if not isinstance(prefix, str):
        raise OptionError("prefix: must be text")
    return Options(
        store=_store(store, settings.storage),
        profile=recipe,
        fetch=settings.fetch.options,
        pictures=settings.pictures.options,
        boxes=_one_of("boxes", boxes, get_args(BoxFormat)),
        units=_one_of("units", "normalised" if units == "normalized" else units, get_args(Units)),
        columns=_columns(columns, boxes),
        prefix=prefix,
        files=_files(files),
        partitions=_count("partitions", partitions),
        processes=_count("processes", processes),
        functions=functions,
        ship=settings.engine.ship,
    )


def check_store(options: Options) -> None:
    """Check that crops can be stored. Raise OptionError."""
    if options.store is None:
        return
    try:
        check_writable(options.store)
    except StorageError as error:
        raise OptionError(f"store: {error}") from None


def find_columns(names: Sequence[Hashable], options: Options) -> Columns:
    """Return the frame's columns by role. Raise OptionError for a missing or repeated column."""
    said = options.columns
    image = said.get("image", _default_image(names) if "image" not in said else None)
    box = said.get("box", said.get("boxes"))
    edges: tuple[Hashable, ...] | None = None
    if box is None:
        edges = tuple(said.get(name, name) for name in EDGES[options.boxes])
        whole = [name for name in WHOLE if name in names]
        if whole and not any(name in names for name in edges):
            edges, box = None, whole[0]
    elif isinstance(box, list | tuple) and box not in names:
        edges, box = tuple(box), None
    label = said.get("label")
    found = Columns(image, edges, box, label)  # type: ignore[arg-type]
    for what, name in (("image", image), *(("box", name) for name in found.of_boxes), ("label", label)):
        if name is None and what == "label":
            continue
        count = sum(1 for known in names if known == name)
        if count == 0:
            raise OptionError(f"columns: the frame has no column {name!r} for the {what}; it has {_listed(names)}")
        if count > 1:
            raise OptionError(f"columns: the frame has column {name!r} {count} times")
    return found


def check_clash(names: Sequence[Hashable], results: Sequence[str]) -> None:
    """Raise OptionError when a column has the name of a result. Spark and DuckDB ignore case."""
    known = {str(name).lower() for name in names}
    clash = [name for name in results if name.lower() in known]
    if clash:
        raise OptionError(f"prefix: the frame has a column {clash[0]!r} already; choose another prefix")
    twice = [name for name in results if sum(name.lower() == other.lower() for other in results) > 1]
    if twice:
        raise OptionError(f"extras: there is a result column {twice[0]!r} already; choose another name")


def _default_image(names: Sequence[Hashable]) -> Hashable:
    found = [name for name in IMAGES if name in names]
    if not found:
        raise OptionError(
            f"columns: no column of images ({', '.join(IMAGES)}); name it, columns={{'image': ...}}; "
            f"the frame has {_listed(names)}"
        )
    if len(found) > 1:
        raise OptionError(
            f"columns: {' and '.join(found)} are all names of image columns; choose one, columns={{'image': ...}}"
        )
    return found[0]


def _listed(names: Sequence[Hashable]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return one_line(shown + (", ..." if len(names) > 12 else "") or "no columns")


def _store(store: str | Path | None, settings: StorageSettings) -> StoreSpec | None:
    if store is None:
        return None
    url = str(store)
    if not url:
        raise OptionError("store: empty; leave it out to get the crops' bytes in a column")
    if "://" not in url:
        url = Path(url).absolute().as_uri()
    try:
        spec = StorageSettings.model_validate(settings.model_dump() | {"url": url}).spec
    except ValidationError as error:
        raise OptionError(f"store: {_first(error)}") from None
    if spec.scheme == "memory":
        raise OptionError(
            "store: memory:/// exists in one process only, and other processes store the crops; leave store out"
        )
    return spec


def _profile(profile: Profile | Mapping[str, Any] | str | None, settings: Settings) -> Profile:
    if profile is None:
        return Profile()
    if isinstance(profile, Profile):
        return profile
    if isinstance(profile, str) and not profile.lstrip().startswith("{"):
        if profile not in settings.profiles:
            raise OptionError(f"profile: there is no {profile!r}; CROPLINE_PROFILES has {', '.join(settings.profiles)}")
        return settings.profiles[profile]
    try:
        return Profile.model_validate(dict(_mapping("profile", profile)))
    except ValidationError as error:
        raise OptionError(f"profile: {_first(error)}") from None


def _columns(columns: Mapping[str, Any] | str | None, boxes: str) -> dict[str, Any]:
    if columns is None:
        return {}
    said = dict(_mapping("columns", columns))
    known = {"image", "box", "boxes", "label", *EDGES.get(boxes, ())}
    unknown = [name for name in said if name not in known]
    if unknown:
        raise OptionError(f"columns: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    box = said.get("box", said.get("boxes"))
    if isinstance(box, list | tuple) and len(box) != 4:
        raise OptionError(f"columns: a box has four columns, not {len(box)}: {', '.join(EDGES.get(boxes, ()))}")
    return said


def _mapping(option: str, value: object) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise OptionError(f"{option}: not JSON") from None
    if not isinstance(value, Mapping):
        raise OptionError(f"{option}: must be a mapping, not {type(value).__name__}")
    return value


def _one_of(option: str, value: object, known: Sequence[_T]) -> _T:
    for name in known:
        if value == name:
            return name
    raise OptionError(f"{option}: {value!r} is not one of {', '.join(known)}")


def _files(files: str | Path | None) -> str | None:
    if files is None:
        return None
    if not Path(files).is_dir():
        raise OptionError(f"files: {files} is not a folder")
    return str(Path(files).absolute())


def _count(option: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise OptionError(f"{option}: must be a whole number, 0 or more")
    return value


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part != "url")
    told = "no such field" if first["type"] == "extra_forbidden" else str(first["msg"]).removeprefix("Value error, ")
    return one_line(f"{where}: {told}" if where else told)
