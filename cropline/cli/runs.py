"""Runs a flow from the command line: checks the settings, shows a progress bar, prints the funnel."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cropline.config.settings import Settings, files_instead, load_installation, load_settings
from cropline.core import store_probe
from cropline.core.errors import CroplineError, SettingsError
from cropline.core.screen import Screen
from cropline.core.scrub import visible
from cropline.intake.image_api import check_is_set
from cropline.intake.photo_places import check_photo_place
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import OnProgress, open_state, report_progress_to
from cropline.reports.places import places
from cropline.reports.problems import problem_lines


def run_poll(source: str | None, max_batches: int | None, files: str | None = None, form: str = "") -> None:
    """Poll a source, or each of several, and print what was done.

    Of several, each is polled before the first photo is cropped; then they take turns. A source that cannot be polled
    does not stop the others: its error is raised at the end. ``files``: read once instead of one source.
    """
    if files is not None:
        settings = check_settings(source, needs_api=False)
        files_instead(settings.api, files, form)
        _show(settings, [("poll", watched(Screen(), "poll", max_batches, source, files=files, files_format=form))])
        return
    settings = check_installation(source, needs_api=True)
    if len(settings.source_names) == 1:
        _show(settings, [("poll", watched(Screen(), "poll", max_batches, source))])
        return
    screen, done, failed = Screen(), list[tuple[str, Funnel]](), list[CroplineError]()
    for name in settings.source_names:
        try:
            done.append((f"poll {name}", watched(screen, "poll", 0, name)))
        except CroplineError as error:
            error.add_note(f"the poll of {name} failed; the other sources were polled")
            failed.append(error)
    done.append(("process", watched(screen, "process", max_batches)))
    _show(settings, done)
    for earlier in failed[:-1]:
        screen.print(f"  {earlier.code}: {visible(str(earlier))}", soft_wrap=True)
    if failed:
        raise failed[-1]


def run_process(source: str | None, max_batches: int | None) -> None:
    """Crop the backlog of a source, or of all, and print what was done."""
    settings = check_installation(source, needs_api=False)
    _show(settings, [("process", watched(Screen(), "process", max_batches, source))])


def _show(settings: Settings, done: Sequence[tuple[str, Funnel]]) -> None:
    screen = Screen()
    screen.print(funnel_table(done))
    for _, funnel in done:
        show_problems(screen, funnel)
    show_places(screen, [*places(settings, done[-1][1])])


def check_settings(source: str | None = None, *, needs_api: bool) -> Settings:
    """Return one source's settings. Raises a CroplineError for anything that is wrong before a run starts."""
    return check_installation(load_settings(source).api.source, needs_api=needs_api)


def check_installation(source: str | None, *, needs_api: bool) -> Settings:
    """Return the settings of a source, or of all. Raises a CroplineError as check_settings does."""
    settings = load_installation()
    if source is not None:
        settings = settings.of(source)
    for name in settings.source_names:
        if needs_api:
            _check_source(settings, name)
    store_probe.require(settings.storage.spec)
    open_state(settings).close()
    return settings


def _check_source(settings: Settings, name: str) -> None:
    try:
        check_is_set(settings.of(name).api)
        check_photo_place(settings.of(name))
    except SettingsError as error:
        raise SettingsError(f"source {name}: {error}" if settings.sources else str(error)) from None


def watched(
    screen: Screen, name: str, max_batches: int | None = None, source: str | None = None, **options: Any
) -> Funnel:
    """Run the flow with a progress bar."""
    from flows.poll import poll
    from flows.process import process

    with progress_of(screen, name) as on_progress, report_progress_to(on_progress):
        if name == "poll":
            funnel: Funnel = poll(max_batches=max_batches, source=source, **options)
            return funnel
        return process(max_batches=max_batches, source=source)


@contextmanager
def progress_of(screen: Screen, name: str) -> Iterator[OnProgress]:
    """Show a progress bar, and yield the function that moves it."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=36),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
        transient=True,
    )
    done = 0
    with bar:
        task = bar.add_task(f"{name}: starting", total=None)

        def on_progress(stage: str, more: int, total: int) -> None:
            nonlocal done
            if stage == "crops":
                done += more
                bar.update(task, description=f"{name}: crops", completed=done, total=max(total, done))
            else:
                bar.update(task, description=f"{name}: {stage} {more:,} of {total:,}")

        yield on_progress


# Lines that are shown only when they are not zero.
_RARE = frozenset({"deleted", "corrected", "rewritten", "refreshed", "not_refreshed"})


def funnel_table(runs: Sequence[tuple[str, Funnel]]) -> Table:
    """Return the counts of one or more runs side by side."""
    table = Table(title=None, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("")
    for name, _ in runs:
        table.add_column(name, justify="right")
    for label, attribute in (
        ("images polled", "polled"),
        ("  seen before", "repeated"),
        ("valid", "valid"),
        ("superseded", "superseded"),
        ("quarantined", "quarantined"),
        ("new", "new"),
        ("changed", "changed"),
        ("metadata corrected", "corrected"),
        ("boxes", "boxes"),
        ("crops written", "written"),
        ("failed", "failed"),
        ("  will be retried", "retrying"),
        ("  good crop kept", "stayed"),
        ("skipped", "skipped"),
        ("rows rewritten", "rewritten"),
        ("deleted by the source", "deleted"),
        ("addresses refreshed", "refreshed"),
        ("  not refreshed", "not_refreshed"),
    ):
        if attribute in _RARE and not any(getattr(funnel, attribute) for _, funnel in runs):
            continue
        table.add_row(label, *(f"{getattr(funnel, attribute):,}" for _, funnel in runs))
    table.add_row("crops/s", *(f"{funnel.crops_per_s:,.0f}" if funnel.written else "-" for _, funnel in runs))
    return table


def show_problems(screen: Screen, funnel: Funnel) -> None:
    """Print why rows are bad and boxes failed, one line per rule and reason."""
    lines = problem_lines(funnel)
    if lines:
        screen.print()
    for line in lines:
        screen.print(f"  warning: {visible(line)}", soft_wrap=True)


def show_places(screen: Screen, where: Sequence[tuple[str, str]]) -> None:
    """Print one line per output of a run."""
    screen.print()
    for name, place in where:
        screen.print(f"  {name:<14} {place}", soft_wrap=True)


class Stopwatch:
    """Measures the seconds since it was created."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
