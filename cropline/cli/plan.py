"""``cropline plan``: what the current profiles would crop again, and what that would cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import ceil

from rich.table import Table

from cropline.config.profile import Profile
from cropline.config.settings import Settings, load_settings
from cropline.core.screen import Screen
from cropline.state import ReasonCount, Recrop, State, StateReport, WorkState

# State -> text for work items that failed in it, and the command that tries them again.
_AGAIN: dict[WorkState, tuple[str, str]] = {
    "failed": ("failed and wait for their next try", "cropline replay --ended failed"),
    "dead": ("failed and have no tries left", "cropline replay --ended dead"),
    "done": ("ended with failures", "cropline replay --ended partial"),
}
_HEAD = ("profile", "what changed", "photos", "photo GB", "crops", "PUTs")


def show_plan(source: str | None = None) -> None:
    """Print one line per profile with the backfill command, then what failed with the replay command."""
    settings = load_settings(source)
    screen = Screen()
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for position, name in enumerate(_HEAD):
        table.add_column(name, justify="left" if position < 2 else "right")
    changed, rewritten = [], 0
    with State.open(settings.state) as state:
        for name, profile in sorted(settings.profiles.items()):
            recrop = state.recrops(settings.api.source, name, profile.hash)
            if recrop.changed or recrop.missing:
                changed.append(name)
            table.add_row(*_row(settings, state, recrop))
            rewritten += state.rows_to_rewrite(settings.api.source, name)
        report = state.report(last_batches=0)
        failures = [count for count in report.reasons if count.state in _AGAIN]
    screen.print(table)
    _show_failures(screen, failures)
    if rewritten:
        screen.print(f"\nThe metadata of {rewritten:,} work items changed. The next run rewrites their rows.")
    if report.moved_out:
        _show_moved_out(screen, report)
    if not changed:
        if not failures and not report.moved_out:
            screen.print("\nEvery photo is cropped by the current profiles, or waits to be.")
        return
    chosen = " ".join(f"--profile {name}" for name in changed)
    screen.print(f"\nNothing was done. To do it: cropline backfill --from manifests {chosen}")
    screen.print("Crops by the earlier recipes stay until they are superseded, photo by photo.")


def _show_moved_out(screen: Screen, report: StateReport) -> None:
    screen.print(
        f"\n{report.moved_out:,} photos are not counted here: they ended long ago and left the state table (see cropline status). "
        "What the current profiles would cut of them: cropline backfill --from manifests --dry-run",
        soft_wrap=True,
    )


def _show_failures(screen: Screen, failures: Sequence[ReasonCount]) -> None:
    """Print the failed work items by state and reason, with the command that tries them again."""
    for state, (what, command) in _AGAIN.items():
        reasons = {count.reason: count.works for count in failures if count.state == state}
        if reasons:
            listed = ", ".join(f"{reason} {works:,}" for reason, works in reasons.items())
            screen.print(f"\n{sum(reasons.values()):,} {what} ({listed}). To try again: {command}", soft_wrap=True)


def _row(settings: Settings, state: State, recrop: Recrop) -> list[str]:
    profile = settings.profiles[recrop.profile]
    return [
        recrop.profile,
        _why(state, recrop, profile),
        f"{recrop.changed + recrop.missing:,}",
        f"{recrop.bytes / 1e9:,.2f}",
        f"{recrop.boxes:,}",
        f"{puts(profile, recrop.boxes):,}",
    ]


def puts(profile: Profile, crops: int, crop_bytes: int = 20_000) -> int:
    """Return the number of PUTs that store the crops. For packs it is an estimate from ``crop_bytes`` per crop."""
    if profile.output == "objects":
        return crops
    packs = ceil(crops * crop_bytes / (profile.shard_mb * 1_000_000))
    return packs * (2 if profile.output == "shards" else 1)


def _why(state: State, recrop: Recrop, profile: Profile) -> str:
    """Return the fields that differ from the recipes that the photos were cropped by."""
    today = json.loads(profile.recipe)
    reasons = []
    for recipe_hash in recrop.recipes:
        before = json.loads(state.recipe(recipe_hash) or "{}")
        fields = [
            f"{name} {before.get(name)} -> {today.get(name)}"
            for name in sorted(set(before) | set(today))
            if before.get(name) != today.get(name)
        ]
        reasons.append(", ".join(fields) if before else "a recipe that the state no longer has")
    if recrop.missing:
        reasons.append(f"{recrop.missing:,} photos without this profile")
    return "; ".join(reasons) or "-"
