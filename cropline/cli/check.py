"""``cropline check``: whether everything is set right, on one screen. It writes nothing but a probe of the storage."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from rich.table import Table

from cropline.cli import check_places
from cropline.cli.check_source import SourceCheck, check_source, raw_lines, row_lines
from cropline.cli.findings import Finding, settings_rows
from cropline.config.settings import load_places
from cropline.core.screen import Screen, plain
from cropline.core.scrub import visible

_COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}
_RAW_LINES = 40
_BOX_LINES = 6


def run_check(source: str | None, out: Path | None, *, photo: bool) -> bool:
    """Print what was found. Return whether nothing is wrong. Raises SettingsError when the settings cannot be read.

    ``out``: a folder or a file for the picture; None is a new temporary folder.
    """
    settings, places = load_places()
    screen = Screen()
    names = settings.source_names if source is None else (settings.of(source).api.source,)
    screen.print(_settings_table(settings_rows(settings, places)))
    screen.print()
    found = [
        finding
        for check in (check_places.storage, check_places.database, check_places.engine, check_places.prefect)
        for finding in [check(settings)]
    ]
    for finding in found:
        _show(screen, finding)
    for name in names:
        screen.print(f"\n[bold]source {name}[/bold]", markup=True)
        checked = check_source(settings.of(name), _picture(out, name, several=len(names) > 1) if photo else None)
        for finding in checked.findings:
            _show(screen, finding, name if settings.sources else "")
        _side_by_side(screen, checked)
        found += checked.findings
    wrong = sum(finding.status == "wrong" for finding in found)
    screen.print(f"\n[bold]{_verdict(wrong)}[/bold]", markup=True)
    return not wrong


def _verdict(wrong: int) -> str:
    if not wrong:
        return "All is well: cropline poll"
    return f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong: see the lines above"


def _settings_table(rows: Sequence[tuple[str, str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("setting", "value", "from"):
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(visible, row))
    return table


def _show(screen: Screen, finding: Finding, source: str = "") -> None:
    colour, text, to_do = _COLOURS[finding.status], finding.text, finding.to_do
    if source:
        text, to_do = _of_source(text, source), _of_source(to_do, source)
    line = f"[{colour}]{finding.status:<6}[/{colour}] [bold]{finding.what:<9}[/bold] {plain(text)}"
    screen.print(line, markup=True, soft_wrap=True)
    if to_do:
        screen.print(f"       -> {to_do}", soft_wrap=True)


def _of_source(text: str, source: str) -> str:
    """Return a text about settings with the variables of one of several sources."""
    variable = source.upper().replace("-", "_").replace(".", "_")
    for group in ("API", "FETCH", "EXPECTATIONS", "PICTURES"):
        text = text.replace(f"CROPLINE_{group}__", f"CROPLINE_SOURCES__{variable}__{group}__")
    return text


def _side_by_side(screen: Screen, checked: SourceCheck) -> None:
    if checked.row is None:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("an item as it came", overflow="fold", ratio=1)
    table.add_column("the row that it became", overflow="fold", ratio=1)
    left, right = raw_lines(checked.item, _RAW_LINES), row_lines(checked.row, _BOX_LINES)
    for one, other in zip_longest(left, right, fillvalue=""):
        table.add_row(visible(one), visible(other))
    screen.print()
    screen.print(table)


def _picture(out: Path | None, source: str, *, several: bool) -> Path:
    name = f"check-{source}.png"
    if out is None:
        return Path(tempfile.mkdtemp(prefix="cropline-check-")) / name
    if out.is_dir() or several:
        return out / name
    return out
