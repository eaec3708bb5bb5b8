"""``cropline check``: one source. It reads one page, maps it, validates it, and draws boxes on one photo."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.cli.findings import Finding
from cropline.config.profile import Profile
from cropline.config.settings import ApiSettings, FetchSettings, Settings
from cropline.core.errors import ApiUnavailable, CroplineError
from cropline.core.failures import FAILURES
from cropline.core.proxy import requests_proxies
from cropline.core.scrub import one_line, scrub
from cropline.intake import image_api, manifest
from cropline.intake.photo_places import check_photo_place

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 200  # of the page that are validated
_BOXES_AT_MOST = 200
_LEAST_PIXELS = 2
_SKEW = timedelta(minutes=2)
_DATE_S = 5


@dataclass
class SourceCheck:
    """What was found of one source, its first item, and the row that it became."""

    source: str
    findings: list[Finding] = field(default_factory=list)
    item: Any = None
    row: dict[str, Any] | None = None
    picture: Path | None = None


def check_source(settings: Settings, picture: Path | None) -> SourceCheck:
    """Check one source. ``picture``: the PNG to write; None fetches no photo."""
    api = settings.api
    found = SourceCheck(api.source)
    items = _page(settings, found)
    if not items:
        return found
    rows = [manifest.manifest_row(position, item, api) for position, item in enumerate(items[:_ROWS])]
    first = next((n for n, row in enumerate(rows) if row["boxes"]), 0)
    found.item, found.row = items[first], rows[first]
    found.findings += [
        *_validated(settings, rows),
        *_boxes_elsewhere(items, rows),
        *_units(api, rows),
        *_times(api, rows),
    ]
    if picture is not None:
        _draw(settings, found, picture)
    return found


def _page(settings: Settings, found: SourceCheck) -> list[Any]:
    api = settings.api
    try:
        check_photo_place(settings)
        source = image_api.open_source(api, spec_of=settings.bucket_spec)
        with closing(source.pages(api.start)) as pages:
            page = next(pages, None)
        if page is None:
            image_api.check_whole(source)
    except CroplineError as error:
        to_do = "" if "CROPLINE_" in str(error) else _to_do(api, error)
        found.findings.append(Finding("wrong", "listing", str(error), to_do))
        return []
    found.findings.append(Finding("ok", "listing", f"{api.place} answers"))
    items = page.items if page is not None else []
    if not items:
        to_do = "CROPLINE_API__DATA_SELECTOR if there should be some, or CROPLINE_API__START"
        found.findings.append(Finding("note", "page", f"no item since {api.start}", to_do))
        return []
    found.findings.append(Finding("ok", "page", f"{len(items)} items since {api.start}"))
    return items


def _to_do(api: ApiSettings, error: CroplineError) -> str:
    setting = "READER" if api.kind == "python" else "URL"
    wait = "; or try again later" if isinstance(error, ApiUnavailable) else ""
    return f"CROPLINE_API__{setting}{wait}"


def _validated(settings: Settings, rows: Sequence[dict[str, Any]]) -> list[Finding]:
    from cropline.intake.stores import read_cameras, read_stores
    from expectations.hints import hints, setting_of
    from expectations.validate import validate_manifest

    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        path = Path(folder, "page.parquet")
        manifest.write_rows(rows, path)
        table = _read(path)
    stores = read_stores(settings.storage.spec, settings.engine.stores)
    verdict = validate_manifest(
        table,
        settings.expectations,
        run_name="check",
        now=datetime.now(UTC),
        allowed_hosts=settings.fetch.allowed_hosts,
        stored_schemes=settings.fetch.stored_schemes,
        known_stores=set(stores["store_id"].to_pylist()) if stores.num_rows else None,
        known_cameras=read_cameras(settings.storage.spec, settings.engine.stores),
        boxes_fail_alone=settings.expectations.boxes_fail_alone,
    )
    boxes = sum(len(row["boxes"] or ()) for row in rows)
    if not verdict.bad_rows:
        if not boxes:
            to_do = "CROPLINE_API__FIELDS__BOXES, or CROPLINE_API__GROUP_BY_IMAGE"
            return [Finding("note", "rows", f"{len(rows)} good rows, none of them with a box", to_do)]
        return [Finding("ok", "rows", f"{len(rows)} good rows with {boxes} boxes")]
    broken: dict[str, int] = {}
    for names in verdict.bad_rows.values():
        for name in names:
            broken[name] = broken.get(name, 0) + 1
    told = hints(table, verdict.bad_rows)
    return [
        Finding("wrong", "rows", f"{name}: {count} of {len(rows)} rows", told.get(name) or setting_of(name))
        for name, count in sorted(broken.items(), key=lambda pair: -pair[1])
    ]


def _boxes_elsewhere(items: Sequence[Any], rows: Sequence[dict[str, Any]]) -> list[Finding]:
    """When no row has boxes, look where else an item has some."""
    from cropline.intake.proposals.boxes import find_boxes

    if any(row["boxes"] for row in rows):
        return []
    form = find_boxes([item for item in items[:_ROWS] if isinstance(item, dict)])
    if form is None:
        return []
    if form.per_item:
        return [Finding("wrong", "boxes", "an item looks like one box", "CROPLINE_API__GROUP_BY_IMAGE=true")]
    (where,) = [one.value for one in form.proposals if one.setting == "fields.boxes"]
    return [Finding("wrong", "boxes", f"{where} looks like boxes", f"CROPLINE_API__FIELDS__BOXES={where}")]


def _units(api: ApiSettings, rows: Sequence[dict[str, Any]]) -> list[Finding]:
    """Pixels of a photo are never all below 2: such boxes would be cut as specks, and no rule is broken."""
    edges = [
        box[edge] for row in rows for box in row["boxes"] or () for edge in ("xmax", "ymax") if box[edge] is not None
    ]
    if api.coordinates == "pixels" and edges and max(edges) < _LEAST_PIXELS:
        text = f"the boxes are said to be in pixels, and their largest number is {max(edges):g}"
        return [Finding("wrong", "units", text, "CROPLINE_API__COORDINATES: normalised?")]
    return []


def _read(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def _times(api: ApiSettings, rows: Sequence[dict[str, Any]]) -> list[Finding]:
    now = datetime.now(UTC)
    findings = []
    times = [row["updated_at"] for row in rows if row["updated_at"] is not None]
    if not times:
        text = "no item says when it last changed"
        to_do = "CROPLINE_API__FIELDS__UPDATED_AT, CROPLINE_API__TIME_FORMAT: polls need it as their cursor"
        return [Finding("wrong", "times", text, to_do)]
    newest = max(times)
    said = f"zone of times without one: {api.time_zone}; newest of the page: {newest:%Y-%m-%d %H:%M:%S} UTC"
    if newest > now + _SKEW:
        text = f"{said}, which is {_span(newest - now)} in the future"
        to_do = "CROPLINE_API__TIME_ZONE, CROPLINE_API__TIME_FORMAT, or the clock of the source"
        findings.append(Finding("wrong", "times", text, to_do))
    else:
        findings.append(Finding("ok", "times", f"{said}, {_span(now - newest)} ago"))
    skew = _skew(api)
    if skew is not None:
        wrong = abs(skew) > _SKEW
        to_do = "the clocks of this machine and of the API; CROPLINE_API__OVERLAP must be longer" if wrong else ""
        findings.append(
            Finding("note" if wrong else "ok", "clock", f"the API's clock differs by {_span(abs(skew))}", to_do)
        )
    return findings


def _skew(api: ApiSettings) -> timedelta | None:
    """Return how far the API's clock is from ours, by the Date header of its answer; None when it has none."""
    if api.kind != "rest":
        return None
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.proxies = requests_proxies(api.proxy_address)
        try:
            answer = session.head(api.listing, timeout=_DATE_S, allow_redirects=False)
            moment = parsedate_to_datetime(answer.headers["Date"])
        except (requests.RequestException, KeyError, ValueError, TypeError):
            return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def _draw(settings: Settings, found: SourceCheck, out: Path) -> None:
    """Fetch the photo of the row, cut its boxes into a temporary folder, and write the photo with its boxes."""
    from cropline.cli.photo_view import cut, image_row, view_row, with_boxes
    from cropline.core.store_spec import StoreSpec

    row = found.row or {}
    if not row.get("url"):
        return  # said by the rules
    announced = {name: row[name] for name in ("url", "bytes", "sha256", "width", "height")}
    meaning = {name: row[name] for name in ("coordinates", "orientation")}
    boxes = [box for box in row["boxes"] or () if None not in [box[edge] for edge in ("xmin", "ymin", "xmax", "ymax")]]
    images = [view_row(0, row["url"]) | {"url": row["url"]}]
    if boxes:
        whole = image_row(row["image_id"] or "?", 1, row["url"], boxes[:_BOXES_AT_MOST], {"check": Profile(min_side=1)})
        images.append(whole | announced | meaning)
    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        store = StoreSpec(Path(folder).as_uri())
        rows = cut(images, store, _with_endpoints(settings), settings.pictures)
        views = [one for one in rows if one["image_id"] == "view"]
        crops = [one for one in rows if one["image_id"] != "view"]
        if not views or views[0]["status"] != "written":
            found.findings.append(_photo_failed(views[0] if views else {}, row["url"]))
            return
        named = [(one, one["label"] or one["box_id"] or "", one["status"] == "written") for one in crops]
        _as_png(with_boxes(Path(folder, views[0]["key"]), views[0], named, []), out)
    found.picture = out
    size = f"{views[0]['image_width']} x {views[0]['image_height']} px"
    found.findings.append(Finding("ok", "photo", f"{size}; its boxes are drawn in {out}: look at it"))
    failed = [one for one in crops if one["status"] == "failed"]
    if failed:
        text = f"{len(failed)} of {len(crops)} boxes fail: {failed[0]['reason']}: {one_line(failed[0]['detail'] or '')}"
        found.findings.append(Finding("wrong", "boxes", text, "CROPLINE_API__BOX_FORMAT, CROPLINE_API__COORDINATES"))
    elif crops:
        found.findings.append(Finding("ok", "boxes", f"{len(crops)} boxes are cut from the photo"))


def _with_endpoints(settings: Settings) -> FetchSettings:
    """Return how photos are fetched: those in the storage's cloud from the storage's server, as in a run."""
    own = settings.storage.spec
    if own.endpoint is None:
        return settings.fetch
    servers = {own.address.cloud: own.endpoint} | settings.fetch.bucket_endpoints
    return settings.fetch.model_copy(update={"bucket_endpoints": servers})


def _photo_failed(row: dict[str, Any], url: str) -> Finding:
    reason = row.get("reason") or "no_answer"
    known = FAILURES.get(reason)
    text = f"{scrub(url)}: {reason}: {one_line(row.get('detail') or '')}"
    return Finding("wrong", "photo", text, f"CROPLINE_FETCH__...: {known.remedy}" if known else "CROPLINE_FETCH__...")


def _as_png(jpeg: bytes, out: Path) -> None:
    from PIL import Image

    from cropline.core.errors import SettingsError

    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            picture.save(out, "PNG")
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written to ({error.strerror})") from None


def raw_lines(item: Any, most: int) -> list[str]:
    """Return the item as JSON lines without secrets, at most so many. Of a list, the first entry stands for all."""
    text = json.dumps(_shortened(item), indent=1, ensure_ascii=False, default=str)
    lines = [scrub(line) for line in text.splitlines()]
    return lines if len(lines) <= most else [*lines[: most - 1], f"... {len(lines) - most + 1} more lines"]


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(part) for name, part in value.items()}
    if isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        more = [f"... {len(value) - 1} more"] if len(value) > 1 else []
        return [_shortened(value[0]), *more]
    return value


def row_lines(row: dict[str, Any], most_boxes: int) -> list[str]:
    """Return what our fields became, one line each."""
    lines = [
        f"{name}: {_text(row.get(name))}"
        for name in (
            "image_id", "version", "url", "captured_at", "updated_at", "store_id", "camera_id", "width", "height", "bytes",
            "sha256", "coordinates", "orientation",
        )
    ]  # fmt: skip
    boxes = row["boxes"] or []
    lines.append(f"boxes: {len(boxes)}")
    for box in boxes[:most_boxes]:
        edges = ", ".join("-" if box[edge] is None else f"{box[edge]:g}" for edge in ("xmin", "ymin", "xmax", "ymax"))
        lines.append(f"  {box['box_id'] or '(no id)'}: {edges}  {box['label'] or ''}")
    if row["unreadable"]:
        lines.append(f"unreadable: {', '.join(row['unreadable'])}")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return "-" if value is None else scrub(str(value))
