"""``cropline backfill``, ``replay`` and ``maintain``: run the flows of the same names and print their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer
from pydantic import ValidationError
from rich.table import Table

from cropline.backfill.estimate import Estimate
from cropline.backfill.report import cost_rows, day_rows
from cropline.backfill.request import From, Limits, Mode, Order, Photos
from cropline.cli.runs import check_installation, check_settings, funnel_table, progress_of, show_places, show_problems
from cropline.core.screen import Screen, plain
from cropline.maintenance.report import cleanup_rows, maintenance_verdict
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import report_progress_to
from cropline.reports.places import places

_ENDED = ("failed", "dead", "quarantined", "partial")


def asked_photos(**fields: Any) -> Photos:
    """Return the options as one model. Raises BadParameter, which names the wrong option."""
    try:
        return Photos(**{name: value for name, value in fields.items() if value})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = f"--{str(first['loc'][0]).removesuffix('s')}" if first["loc"] else "--since"
        raise typer.BadParameter(first["msg"].removeprefix("Value error, "), param_hint=option) from None


def asked_ended(ended: Sequence[str] | None) -> list[str]:
    """Return the states of the work items to replay. Raises BadParameter for an unknown one."""
    for one in ended or ():
        if one not in _ENDED:
            raise typer.BadParameter(f"{one!r} is not one of {', '.join(_ENDED)}", param_hint="--ended")
    return list(ended or ("failed", "dead"))


def run_backfill(
    photos: Photos,
    announced: From,
    mode: Mode,
    order: Order,
    *,
    dry_run: bool,
    restart: bool,
    limits: dict[str, int | None],
    source: str | None = None,
) -> None:
    """Run a backfill and print what it did, or would do."""
    settings = check_settings(source, needs_api=announced == "api")
    from flows.backfill import backfill

    _show(
        "backfill",
        settings,
        lambda: backfill(
            photos=photos,
            announced=announced,
            mode=mode,
            order=order,
            dry_run=dry_run,
            restart=restart,
            limits=Limits.model_validate(limits),
            source=source,
        ),
    )


def run_replay(
    ended: Sequence[str],
    reasons: Sequence[str],
    photos: Photos,
    order: Order,
    *,
    dry_run: bool,
    limits: dict[str, int | None],
    manifests: Sequence[str] = (),
    source: str | None = None,
) -> None:
    """Run a replay and print what it did, or would do."""
    settings = check_settings(source, needs_api=False)
    from flows.replay import replay

    _show(
        "replay",
        settings,
        lambda: replay(
            ended=list(ended),  # type: ignore[arg-type]  # checked by asked_ended
            reasons=list(reasons),
            manifests=list(manifests),
            photos=photos,
            order=order,
            dry_run=dry_run,
            limits=Limits.model_validate(limits),
            source=source,
        ),
    )


def run_maintain(keep_days: int, *, dry_run: bool) -> None:
    """Run maintenance and print what it did, or would do."""
    check_installation(None, needs_api=False)
    from flows.maintain import maintain

    screen = Screen()
    done, results = maintain(keep_days=keep_days, dry_run=dry_run)
    screen.print(maintenance_verdict(done))
    for name, count, size in cleanup_rows(results):
        gone = "to remove" if dry_run else "removed"
        screen.print(f"  {name}: {count} {gone}{f', {size} MB' if size else ''}")


def _show(name: str, settings: Any, run: Callable[[], Funnel | Estimate]) -> None:
    screen = Screen()
    with progress_of(screen, name) as on_progress, report_progress_to(on_progress):
        answer = run()
    if isinstance(answer, Estimate):
        _show_plan(screen, answer)
    else:
        screen.print(funnel_table([(name, answer)]))
        show_problems(screen, answer)
        if answer.hint:
            screen.print(f"\n  {answer.hint}", soft_wrap=True)
        show_places(screen, [*places(settings, answer)])


def _show_plan(screen: Screen, plan: Estimate) -> None:
    screen.print(f"[bold]{plain(plan.verdict)}[/bold]  Nothing was done.\n", markup=True)
    for name, value in cost_rows(plan.cost):
        screen.print(f"  {name:<10} {value}")
    head, rows = day_rows(plan)
    if rows:
        screen.print()
        screen.print(_table(head, rows))
    if plan.left:
        screen.print()
        left = [[why, what, f"{count:,}"] for why, what, count in plan.left]
        screen.print(_table(["left out because", "unit", "count"], left))
    if plan.note:
        screen.print(f"\n  {plan.note}", soft_wrap=True)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for position, name in enumerate(head):
        table.add_column(name, justify="left" if position == 0 or name == "unit" else "right")
    for row in rows:
        table.add_row(*row)
    return table
