"""``cropline try`` and ``cropline shadow``: a new or changed profile beside the current one; nothing is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cropline.config.settings import Settings, load_settings
from cropline.core.errors import SettingsError
from cropline.core.screen import Screen
from cropline.state import State

if TYPE_CHECKING:
    from cropline.state import ImageState
    from fugue_jobs.trial.compare import Comparison, Side
    from fugue_jobs.trial.run import Spent

# A sample is drawn from the newest photos, this many times its size.
_POOL = 20
_SHEET = "sheet.png"
_SHARES = 10_000
# How many of the newest photos a shadow looks at each time.
_NEWEST = 5_000


def try_profile(profile: str, sample: int, against: str | None, out: Path) -> None:
    """Cut a sample of the photos by the profile and by the current recipe; print what differs and draw a sheet.

    Raise SettingsError for an unknown profile, or when no photo was cropped yet.
    """
    settings, screen = load_settings(), Screen()
    name = _against(settings, profile, against)
    with State.open(settings.state) as state:
        newest = state.find_images(states=["done"], profiles=[name], limit=sample * _POOL)
        chosen = sorted(newest, key=lambda item: _drawn(item.image_id))[:sample]
        images = list(_rows(settings, state, chosen, profile))
    if not images:
        raise SettingsError(f"no photo was cropped by profile {name} yet: run cropline poll, or name another --against")
    screen.print(f"cutting {len(images):,} photos by both ...")
    comparison, spent = _begin()
    _run(images, settings, comparison, spent)
    _finish(screen, comparison, spent, (f"{name}, current", profile), out)


def shadow_profile(
    profile: str, share: float, minutes: float, against: str | None, out: Path, every_s: float = 5.0
) -> None:
    """Do the same with a share of the photos that other runs crop from now on, until the time is over or Ctrl-C."""
    settings, screen = load_settings(), Screen()
    name = _against(settings, profile, against)
    comparison, spent = _begin()
    deadline = monotonic() + minutes * 60
    with State.open(settings.state) as state:
        seen = {_done(item): None for item in state.find_images(states=["done"], profiles=[name], limit=_NEWEST)}
        screen.print(f"watching for photos that other runs crop by {name}; Ctrl-C ends it and shows the result")
        try:
            while monotonic() < deadline:
                done = state.find_images(states=["done"], profiles=[name], limit=_NEWEST)
                new = [item for item in done if _done(item) not in seen]
                seen |= {_done(item): None for item in new}
                drawn = [item for item in new if _drawn(item.image_id) < share * _SHARES]
                _run(list(_rows(settings, state, drawn, profile)), settings, comparison, spent)
                sleep(min(every_s, max(0.0, deadline - monotonic())))
        except KeyboardInterrupt:
            screen.print("")
    _finish(screen, comparison, spent, (f"{name}, current", profile), out)


def _done(item: ImageState) -> tuple[str, str, datetime]:
    return item.source, item.image_id, item.since


def _against(settings: Settings, profile: str, against: str | None) -> str:
    if profile not in settings.profiles:
        raise SettingsError(f"CROPLINE_PROFILES has no profile {profile!r}; it has {', '.join(settings.profiles)}")
    if against is not None:
        return against
    with State.open(settings.state) as state:
        if state.find_images(states=["done"], profiles=[profile], limit=1):
            return profile
    return next((name for name in settings.profiles if name != profile), profile)


def _drawn(image_id: str) -> int:
    """Return a number below _SHARES that is always the same for a photo."""
    return int(hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:12], 16) % _SHARES


def _rows(settings: Settings, state: State, items: Sequence[ImageState], profile: str) -> Iterator[dict[str, Any]]:
    """Yield rows of schemas.IMAGES with two work items: by the recipe that cut the photo, and by the tried profile."""
    from fugue_jobs.engines.manifests import ManifestRows

    tried = settings.profiles[profile]
    places = {(item.manifest, item.manifest_row): item for item in items}
    rows: dict[str, list[int]] = {}
    for manifest, row in places:
        rows.setdefault(manifest, []).append(row)
    found = ManifestRows(settings.storage.spec, tuple((key, tuple(sorted(rows[key]))) for key in sorted(rows))).table()
    recipes = {item.profile_hash: state.recipe(item.profile_hash) for item in items}
    for row in found.to_pylist():
        item = places[row["manifest"], row["manifest_row"]]
        recipe = recipes[item.profile_hash]
        if recipe is None:
            continue
        work = {"profile": item.profile, "profile_hash": item.profile_hash, "recipe": recipe, "fingerprint": "current"}
        other = {"profile": profile, "profile_hash": tried.hash, "recipe": tried.recipe, "fingerprint": "tried"}
        yield row | {"work": [work, other]}


def _begin() -> tuple[Comparison, Spent]:
    from fugue_jobs.trial.compare import Comparison
    from fugue_jobs.trial.run import Spent

    return Comparison(), Spent()


def _run(images: list[dict[str, Any]], settings: Settings, comparison: Comparison, spent: Spent) -> None:
    from fugue_jobs.trial.run import run_trial

    if images:
        for pair in run_trial(images, settings, spent):
            comparison.add(pair)


def _finish(screen: Screen, found: Comparison, spent: Spent, names: tuple[str, str], out: Path) -> None:
    from fugue_jobs.trial.sheet import trial_sheet

    if not found.boxes:
        screen.print("no photo was cropped meanwhile")
        return
    screen.print(_table(found, spent, names))
    _values(screen, found.tried)
    if found.compared:
        screen.print(
            f"\n{found.changed:,} of {found.compared:,} pairs of crops differ, {found.resized:,} in size; "
            f"{found.pixels / found.compared:.1%} of the pixels differ on average"
        )
    title = f"{names[1]} beside {names[0]}: {found.boxes:,} boxes of {len(found.photos):,} photos, worst first"
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / _SHEET).write_bytes(trial_sheet(found.worst, title, names))
    except OSError as error:
        raise SettingsError(f"--out {out}: {_SHEET} cannot be written ({error.strerror})") from None
    screen.print(f"the pairs that differ most: {out / _SHEET}", soft_wrap=True)
    screen.print("Nothing was stored, and no work item changed.")


def _table(found: Comparison, spent: Spent, names: tuple[str, str]) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column(f"{found.boxes:,} boxes")
    for name in (*names, "change"):
        table.add_column(name, justify="right")
    outcomes = found.current.outcomes | found.tried.outcomes
    for name in sorted(outcomes, key=lambda name: (name != "written", -outcomes[name], name)):
        _count(table, name, found.current.outcomes[name], found.tried.outcomes[name])
    before, after = found.current, found.tried
    _mean(table, "core ms per box", (spent.current * 1000, found.boxes), (spent.tried * 1000, found.boxes))
    _mean(table, "KB per crop", (before.bytes / 1000, before.written), (after.bytes / 1000, after.written))
    _mean(table, "thousand px per crop", (before.area / 1000, before.written), (after.area / 1000, after.written))
    _mean(table, "brightness, 0 to 255", (before.luminance, before.written), (after.luminance, after.written))
    return table


def _count(table: Table, name: str, before: int, after: int) -> None:
    table.add_row(name, f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "")


def _mean(table: Table, name: str, before: tuple[float, int], after: tuple[float, int]) -> None:
    """Add two means, each given as (sum, count)."""
    means = [total / count if count else None for total, count in (before, after)]
    texts = ["" if mean is None else f"{mean:,.1f}" for mean in means]
    change = f"{means[1] / means[0] - 1:+.0%}" if means[0] and means[1] is not None else ""
    table.add_row(name, *texts, change)


def _values(screen: Screen, side: Side) -> None:
    """Print the columns that steps returned, each with its commonest values."""
    for name, values in sorted(side.values.items()):
        common: Iterable[str] = (f"{value} ({count:,})" for value, count in values.most_common(5))
        screen.print(
            f"  {name}: {values.total():,} values, {len(values):,} distinct: {', '.join(common)}", soft_wrap=True
        )
