"""plan: decides which work items a backfill or replay does, in which order. Changes nothing.

It gathers the API, the manifests, the rules and the state; the choice itself is in cropline/backfill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from cropline.backfill.choose import NEWER_IS_BAD, Chosen, Row, choose
from cropline.backfill.classify import IDS_AT_ONCE, Selection, WorkItem, classify, of_bad
from cropline.backfill.listings import Announced, Listing, landed, polled, start_of
from cropline.backfill.plan import Plan, ordered
from cropline.backfill.remapping import remapped
from cropline.backfill.request import Ended, From, Limits, Mode, Order, Photos
from cropline.catalogue import Catalogue
from cropline.core.errors import ManifestRejected, SettingsError
from cropline.core.failures import FAILURES
from cropline.core.request import in_utc
from cropline.intake import image_api
from cropline.intake.grouping import grouped_rows
from cropline.intake.stores import read_cameras, read_stores
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.known_photos import find_known
from cropline.pipeline.run import Run
from cropline.state.requeue import WorkItemFilter
from expectations.hints import setting_of
from expectations.manifest import VERSION_RULE_NAMES, quarantine_rules
from tasks.land import places
from tasks.options import STEP
from tasks.rate_limit import leave, limit_of

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import ImageState, ReasonCount, WorkState

_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)
_HINTS = 3


@dataclass(frozen=True)
class Asked:
    """The request of one backfill."""

    photos: Photos
    announced: From
    mode: Mode
    order: Order
    limits: Limits


@dataclass(frozen=True)
class Replayed:
    """The request of one replay."""

    photos: Photos
    ended: Sequence[Ended]
    reasons: Sequence[str]
    order: Order
    manifests: Sequence[str] = ()  # of quarantined rows


@task(name="plan", task_run_name="plan from {asked.announced}", **STEP | {"retries": 0})
def plan(run: Run, asked: Asked, done_since: datetime | None) -> Plan:
    """Return the plan of a backfill. ``done_since``: work items done after it are not repeated, also in mode "all"."""
    announced = _announced(run, asked)
    rules = _Rules(run)
    chosen = choose(announced.listings, run.spec, asked.photos, datetime.now(UTC), rules.validate)
    rules.check_budget(chosen)
    left: Counter[str] = Counter()
    selection = Selection(run.settings.api.source, asked.mode, profiles(run, asked.photos), done_since)
    work_items = ordered(classify(chosen.good, selection, run.state, Catalogue(run.spec), left), asked.order)
    bad = _bad(run, chosen, left)
    return Plan(
        work_items=work_items,
        bad=bad if asked.mode != "failed" else [],
        listings=announced.listings,
        read=chosen.read,
        outside=+chosen.outside,
        left=left,
        calls=announced.calls,
        complete=announced.complete,
        note=announced.note,
        good=len(chosen.good),
        hints=rules.hints,
    )


def profiles(run: Run, photos: Photos) -> dict[str, str]:
    """Return name -> recipe hash of the requested profiles. Raise SettingsError for one that is not set."""
    known = {name: profile.hash for name, profile in run.settings.profiles.items()}
    unknown = sorted(set(photos.profiles) - set(known))
    if unknown:
        raise SettingsError(f"no profile {', '.join(unknown)} in CROPLINE_PROFILES; there are {', '.join(known)}")
    return {name: known[name] for name in photos.profiles or known}


@task(name="plan", task_run_name="plan the replay", **STEP)
def plan_replay(run: Run, asked: Replayed) -> Plan:
    """Return the plan of a replay: work items that failed, and quarantined ones that pass the current rules."""
    _check_names(run, asked)
    left: Counter[str] = Counter()
    found = {ended: _ended(run, asked, ended) for ended in asked.ended if ended != "quarantined"}
    work_items = [
        WorkItem(
            w.image_id, w.profile, ended if not w.reason else f"{ended}: {w.reason}", "requeue", w.captured_at, w.boxes,
            None, state=w.state,
        )
        for ended, states in found.items()
        for w in states
    ]  # fmt: skip
    if "quarantined" not in asked.ended:
        return Plan(ordered(work_items, asked.order), left=left, note=_hint(run, asked, work_items), asks_again=True)
    again = _good_now(run, asked, left)
    work_items = ordered([*work_items, *again.work_items], asked.order)
    return Plan(
        work_items,
        listings=again.listings,
        left=left,
        read=again.read,
        from_quarantine=True,
        note=again.note or _hint(run, asked, work_items),
        asks_again=True,
        good=again.good,
        still_bad=again.still_bad,
        still_bad_rows=again.still_bad_rows,
        hints=again.hints,
    )


def _hint(run: Run, asked: Replayed, work_items: Sequence[WorkItem]) -> str | None:
    """Return what would have matched when nothing did: users seldom know which state a photo is in."""
    if work_items:
        return None
    found = run.state.endings(_filter(run, asked.photos))
    hints = [_would_match(entry) for entry in found[:_HINTS]]
    more = f"; and {len(found) - _HINTS} more, see cropline status" if len(found) > _HINTS else ""
    note = f"nothing matches; {'; '.join(hints)}{more}" if hints else None
    if note is not None:
        run.add(Funnel(hint=note))
        get_run_logger().warning("%s", note)
    return note


def _would_match(entry: ReasonCount) -> str:
    photos = "1 photo" if entry.works == 1 else f"{entry.works:,} photos"
    reasons = "".join(f" --reason {reason}" for reason in entry.reason.split(",") if reason)
    match entry.state:
        case "done":
            return f"{photos} ended with permanent failures: --ended partial{reasons}"
        case "quarantined":
            return f"{photos} {'is' if entry.works == 1 else 'are'} in quarantine: --ended quarantined{reasons}"
        case "dead":
            return f"{photos} {'has' if entry.works == 1 else 'have'} no tries left: --ended dead{reasons}"
    return f"{photos} {'waits' if entry.works == 1 else 'wait'} for another try: --ended failed{reasons}"


def _check_names(run: Run, asked: Replayed) -> None:
    """Raise SettingsError for an unknown reason or profile. It would match nothing, as if all were well."""
    reasons = {*FAILURES, *quarantine_rules()}
    unknown = sorted(set(asked.reasons) - reasons)
    if unknown:
        raise SettingsError(f"no reason {', '.join(unknown)}; there are {', '.join(sorted(reasons))}")
    source, known = run.settings.api.source, run.settings.profiles
    # A profile that left the settings may still have work items.
    for name in asked.photos.profiles:
        if name not in known and not run.state.find_images(sources=[source], profiles=[name], limit=1):
            raise SettingsError(
                f"no profile {name} in CROPLINE_PROFILES, and no work item of it; there are {', '.join(known)}"
            )


def _filter(run: Run, photos: Photos, states: Sequence[WorkState] = (), reasons: Sequence[str] = ()) -> WorkItemFilter:
    return WorkItemFilter(
        states=states,
        reasons=reasons,
        sources=[run.settings.api.source],
        stores=photos.stores,
        cameras=photos.cameras,
        profiles=photos.profiles,
        since=in_utc(photos.since) if photos.since else None,
        until=in_utc(photos.until) if photos.until else None,
    )


def _ended(run: Run, asked: Replayed, ended: Ended) -> Iterable[ImageState]:
    permanent = [code for code, failure in FAILURES.items() if not failure.transient]
    reasons = list(asked.reasons)
    if ended == "partial":  # done, but some of its boxes failed permanently
        reasons = [code for code in permanent if code in reasons] if reasons else permanent
        if not reasons:
            return []
    states: Sequence[WorkState] = ["done"] if ended == "partial" else [ended]
    return run.state.each_image(_filter(run, asked.photos, states, reasons))


def _good_now(run: Run, asked: Replayed, left: Counter[str]) -> _Again:
    """Map and validate quarantined rows again. Rows that are good now and not superseded become work items."""
    waiting, recipes, rules = _waiting(run, asked, left), profiles(run, asked.photos), _Rules(run)
    listings, unmapped = remapped(waiting, run.settings.api, run.spec, run.folder)
    # The current rules may allow capture times in the future.
    photos = asked.photos.model_copy(update={"until": asked.photos.until or _FOR_EVER})
    chosen = choose(listings, run.spec, photos, datetime.now(UTC), rules.validate)
    left.update(f"still bad: {', '.join(row.broken)}" for row in chosen.bad)
    left.update(chosen.outside)
    selection = Selection(run.settings.api.source, "missing", recipes, None)
    work_items = []
    for work in classify(chosen.good, selection, run.state, Catalogue(run.spec), left):
        if work.action == "register":
            work_items.append(replace(work, why="good now"))
        else:
            left["waiting already"] += 1
    # Rows that lack one of these are not validated.
    unplaced = {
        "image_id_present": chosen.outside["no image id"],
        "captured_at_present": chosen.outside["no capture time"],
    }
    return _Again(
        work_items=work_items,
        listings=listings,
        read=sum(map(len, waiting.values())),
        note=_unmapped_note(unmapped, run.settings.api.group_by_image),
        # Rows that an earlier replay accepted count as good: repeating a replay is no failure.
        good=len(chosen.good) + left["replayed before"],
        still_bad=+(Counter(name for row in chosen.bad for name in row.broken) + Counter(unplaced)),
        still_bad_rows=len(chosen.bad) + sum(unplaced.values()),
        hints={rule: f"look at {setting_of(rule)}" for rule in unplaced} | rules.hints,
    )


def _unmapped_note(rows: int, grouped: bool) -> str | None:
    if not rows:
        return None
    why = (
        "with GROUP_BY_IMAGE, cropline backfill --from api maps them again"
        if grouped
        else "their items were not stored"
    )
    return f"{rows:,} rows keep their earlier mapping: {why}"


@dataclass(frozen=True)
class _Again:
    """The result for the rows in quarantine, in the fields of a Plan."""

    work_items: list[WorkItem]
    listings: list[Listing]
    read: int
    note: str | None
    good: int
    still_bad: Counter[str]
    still_bad_rows: int
    hints: dict[str, str]


def _waiting(run: Run, asked: Replayed, left: Counter[str]) -> dict[str, set[int]]:
    """Return manifest -> its rows in quarantine that were not replayed yet."""
    from cropline.intake import quarantine

    photos, recipes = asked.photos, profiles(run, asked.photos)
    # Rows without store or camera match too: the current mapping may find one where the earlier one did not.
    wanted = quarantine.QuarantineFilter(asked.manifests, asked.reasons, photos.stores, photos.cameras, unknown=True)
    rows: dict[str, set[int]] = {}
    for entry in quarantine.find(run.spec, run.settings.api.source, wanted):
        if entry.replayed(recipes):
            left["replayed before"] += 1
        elif set(entry.row["broken"]) <= VERSION_RULE_NAMES:
            left["another row of its manifest was used"] += 1
        else:
            key, row = entry.place
            rows.setdefault(key, set()).add(row)
    return rows


def _announced(run: Run, asked: Asked) -> Announced:
    api = run.settings.api
    if asked.announced == "manifests":
        return landed(run.spec, api.source, asked.photos)
    pages = image_api.pages(
        api, start_of(asked.photos, api), leave(name=limit_of(run.settings)), run.settings.bucket_spec
    )
    group = partial(grouped_rows, api=api, spec=run.spec, places=partial(places, run)) if api.group_by_image else None
    return polled(pages, api, asked.photos, run.folder, asked.limits.api_calls, group)


class _Rules:
    """The manifest suite over rows from anywhere, with the error budget of a poll."""

    def __init__(self, run: Run) -> None:
        self._run = run
        stores = read_stores(run.spec, run.settings.engine.stores)
        self._cameras = read_cameras(run.spec, run.settings.engine.stores)
        self._stores = set(stores["store_id"].to_pylist()) if stores.num_rows else None
        self.broken: Counter[str] = Counter()
        self.hints: dict[str, str] = {}

    def validate(self, rows: pa.Table) -> dict[int, list[str]]:
        from expectations.hints import hints
        from expectations.validate import validate_manifest

        settings = self._run.settings
        verdict = validate_manifest(
            rows,
            settings.expectations,
            run_name=self._run.context.run_name,
            now=datetime.now(UTC),
            allowed_hosts=settings.fetch.allowed_hosts,
            stored_schemes=settings.fetch.stored_schemes,
            known_stores=self._stores,
            known_cameras=self._cameras,
            boxes_fail_alone=settings.expectations.boxes_fail_alone,
        )
        if verdict.critical:
            raise ManifestRejected(f"the announced rows are broken as a whole ({', '.join(verdict.critical)})")
        self.broken.update(name for names in verdict.bad_rows.values() for name in names)
        self.hints |= hints(rows, verdict.bad_rows)
        return verdict.bad_rows

    def check_budget(self, chosen: Chosen) -> None:
        """Raise ManifestRejected when too many rows are bad.

        As in a poll, bad older versions of a photo do not count.
        """
        rules = self._run.settings.expectations
        bad = len(chosen.bad) + chosen.outside[NEWER_IS_BAD]
        rows = len(chosen.good) + bad
        if rows < rules.min_rows_for_budget or bad <= rules.max_quarantined_fraction * rows:
            return
        common = ", ".join(f"{name} {count}" for name, count in self.broken.most_common(3))
        raise ManifestRejected(
            f"{bad} of {rows} announced rows are bad ({common}), more than max_quarantined_fraction = "
            f"{rules.max_quarantined_fraction}; nothing was done"
        )


def _bad(run: Run, chosen: Chosen, left: Counter[str]) -> list[Row]:
    """Return bad rows that the state does not know in this form."""
    fresh, held = of_bad(chosen.bad, _quarantined_versions(run, chosen.bad))
    if held:
        left["in quarantine and still bad"] += held
    return fresh


def _quarantined_versions(run: Run, rows: Iterable[Row]) -> dict[str, str]:
    ids = [row.image_id for row in rows]
    found: dict[str, str] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        part = ids[start : start + IDS_AT_ONCE]
        work_items = find_known(run.state, Catalogue(run.spec), run.settings.api.source, part)
        # A photo that is done or pending keeps its last good version; a bad one does not change it.
        found |= {work.image_id: work.version for work in work_items if work.state == "quarantined"}
        rest = {work.image_id for work in work_items if work.state != "quarantined"}
        found |= {row.image_id: row.version for row in rows if row.image_id in rest}
    return found
