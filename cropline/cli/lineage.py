"""``cropline lineage``: the lineage graph of one run or of one crop, as SVG and as text."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cropline.catalogue import Catalogue
from cropline.cli.trace import refuse_forgotten
from cropline.config.settings import Settings, load_installation
from cropline.core import keys, storage
from cropline.core.errors import CatalogueError, CroplineError, SettingsError
from cropline.core.screen import Screen, plain
from cropline.core.scrub import visible
from cropline.intake import manifest, quarantine
from cropline.lineage import lineage_svg
from cropline.reports.run_record import find_record


@dataclass(frozen=True)
class _Drawing:
    """What is drawn: the counts on the edges, and the names of the manifest, batch and so on."""

    title: str
    file: str
    counts: dict[str, int | None]
    names: dict[str, str] = field(default_factory=dict)


def show_lineage(what: str, out: Path | None) -> None:
    """Draw a flow run or a crop. Raises CatalogueError when there is neither, or the photo was erased."""
    settings = load_installation()
    drawing = _of_crop(settings, what) or _of_run(settings, what)
    if drawing is None:
        raise CatalogueError(
            f"no crop and no run {visible(what)} in {settings.storage.url}; give a crop's key or address, or the id of a flow run "
            "that had work"
        )
    screen = Screen()
    screen.print(f"[bold]{plain(drawing.title)}[/bold]", markup=True, soft_wrap=True)
    for line in _words(drawing):
        screen.print(f"  {visible(line)}", soft_wrap=True)
    picture = lineage_svg(drawing.counts, title=drawing.title, names=drawing.names)
    screen.print(f"\n  picture: {_save(picture, f'lineage-{drawing.file}.svg', out)}", soft_wrap=True)


def _save(picture: str, name: str, out: Path | None) -> Path:
    """Write the picture and return its path. It never goes into the storage, where an erasure would not find it."""
    folder = out or Path(tempfile.mkdtemp(prefix="cropline-lineage-"))
    path = folder / name if folder.is_dir() else folder
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--out {path}: cannot be written to ({error.strerror})") from None
    return path


def _words(drawing: _Drawing) -> Iterator[str]:
    """Yield the graph as text, one line per edge."""
    counts, names = drawing.counts, drawing.names
    rows = [count for name in ("written", "failed", "skipped") if (count := counts.get(name)) is not None]
    edges = (
        ("api", "manifest", counts.get("polled"), "items"),
        ("manifest", "validate", counts.get("landed"), "rows"),
        ("validate", "state", counts.get("valid"), "valid"),
        ("validate", "quarantine", counts.get("quarantined"), "quarantined"),
        ("state", "crop", counts.get("images"), "images"),
        ("crop", "crops", counts.get("written"), "written"),
        ("crop", "catalogue", sum(rows) if rows else None, "rows"),
    )
    for start, end, count, unit in edges:
        number = "-" if count is None else f"{count:,}"
        named = f"   {names[end]}" if names.get(end) else ""
        yield f"{start:>8} -> {end:<10} {number:>11} {unit:<12}{named}"


def _host(settings: Settings) -> str:
    return (urlsplit(settings.api.url).hostname or "") if settings.api.kind == "rest" else settings.api.kind


def _of_run(settings: Settings, flow_run: str) -> _Drawing | None:
    """Read the record beside the report. A killed run has none; then use the catalogue."""
    spec, names = settings.storage.spec, {"api": _host(settings)}
    record = find_record(spec, flow_run)
    if record is not None:
        names |= {"manifest": record.manifest or "", "quarantine": record.quarantine or ""}
        return _Drawing(record.title, flow_run, dict(record.counts), names)

    rows = Catalogue(spec).rows(columns=_COLUMNS, flow_run=flow_run)
    if not len(rows):
        return None
    batches = sorted(set(rows["batch_id"].to_pylist()))
    names["crop"] = batches[0] if len(batches) == 1 else f"{len(batches):,} batches"
    title = f"run {flow_run}, from the catalogue"
    return _Drawing(title, flow_run, _counted(rows), names)


_COLUMNS = ("source", "image_id", "status", "batch_id")


def _counted(rows: Any) -> dict[str, int | None]:
    status = rows["status"].to_pylist()
    images = set(zip(rows["source"].to_pylist(), rows["image_id"].to_pylist(), strict=True))
    return {"images": len(images), **{name: status.count(name) for name in ("written", "failed", "skipped")}}


def _of_crop(settings: Settings, crop: str) -> _Drawing | None:
    """Use the counts of the crop's manifest and batch, and the names on the way to the crop."""
    catalogue = Catalogue(settings.storage.spec)
    row = catalogue.find(crop)
    if row is None:
        return None
    refuse_forgotten(settings, row["source"], row["image_id"])
    rows = catalogue.batch_rows(row["batch_id"])
    counts = {**_landed(settings, row), **(_counted(rows) if rows is not None else {})}
    names = {
        "api": _host(settings),
        "manifest": f"{row['manifest'].removesuffix('.parquet')} row {row['manifest_row']}",
        "state": row["image_id"],
        "crop": row["batch_id"],
        "crops": row["key"],
        "catalogue": f"box {row['box_id']}",
    }
    title = f"{row['key']}, in its batch"
    return _Drawing(title, keys.safe_name(row["key"].rpartition("/")[2]), counts, names)


def _landed(settings: Settings, row: dict[str, Any]) -> dict[str, int | None]:
    """Return the counts of the crop's manifest; none when retention has removed it."""
    spec = settings.storage.spec
    try:
        landed = manifest.read(spec, row["manifest"], ["row"]).num_rows
        held = quarantine.quarantine_key(row["manifest"])
        bad = quarantine.read(spec, held).num_rows if storage.exists(spec, held) else 0
    except CroplineError:
        return {}
    return {"polled": None, "landed": landed, "valid": landed - bad, "quarantined": bad}
