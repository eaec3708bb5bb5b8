"""plan: which works a backfill or a replay is to do, in which order. Changes nothing.

Belongs here: bringing the API, the manifests, the rules and the state together. Does not: the choice and the cases
(cropline/backfill), which need neither Prefect nor Great Expectations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prefect import task

from cropline import image_api
from cropline.backfill.choose import Chosen, Row, choose, judge_rows
from cropline.backfill.classify import IDS_AT_ONCE, Selection, Work, classify, of_bad
from cropline.backfill.plan import Plan, ordered
from cropline.backfill.request import Ended, From, Limits, Mode, Order, Photos, in_utc
from cropline.backfill.sheets import Announced, Sheet, landed, polled, start_of
from cropline.errors import ManifestRejected, SettingsError
from cropline.failures import FAILURES
from cropline.run import Run
from cropline.stores import read_stores
from tasks.options import STEP
from tasks.pace import paced

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import ImageState, WorkState

_AT_MOST = 1_000_000  # works that one replay looks at


@dataclass(frozen=True)
class Asked:
    """One backfill, as it was asked for."""

    photos: Photos
    announced: From
    mode: Mode
    order: Order
    limits: Limits


@dataclass(frozen=True)
class Replayed:
    """One replay, as it was asked for."""

    photos: Photos
    ended: Sequence[Ended]
    reasons: Sequence[str]
    order: Order


@task(name="plan", task_run_name="plan from {asked.announced}", **STEP | {"retries": 0})
def plan(run: Run, asked: Asked, done_since: datetime | None) -> Plan:
    """The plan of a backfill. ``done_since``: works that ended after it are done, also for mode "all"."""
    announced = _announced(run, asked)
    rules = _Rules(run)
    chosen = choose(announced.sheets, run.spec, asked.photos, datetime.now(UTC), rules.judge)
    rules.check_budget(len(chosen.good) + len(chosen.bad))
    left: Counter[str] = Counter()
    selection = Selection(run.settings.api.source, asked.mode, profiles(run, asked.photos), done_since)
    works = ordered(classify(chosen.good, selection, run.state, left), asked.order)
    bad = _bad(run, chosen, left)
    return Plan(
        works=works,
        bad=bad if asked.mode != "failed" else [],
        sheets=announced.sheets,
        read=chosen.read,
        outside=+chosen.outside,
        left=left,
        calls=announced.calls,
        complete=announced.complete,
        note=announced.note,
    )


def profiles(run: Run, photos: Photos) -> dict[str, str]:
    """Name and recipe's hash of the profiles that are asked for; raises SettingsError for one that is not set."""
    known = {name: profile.hash for name, profile in run.settings.profiles.items()}
    unknown = sorted(set(photos.profiles) - set(known))
    if unknown:
        raise SettingsError(f"no profile {', '.join(unknown)} in CROPLINE_PROFILES; there are {', '.join(known)}")
    return {name: known[name] for name in photos.profiles or known}


@task(name="plan", task_run_name="plan the replay", **STEP)
def plan_replay(run: Run, asked: Replayed) -> Plan:
    """The plan of a replay: works that ended badly, and quarantined ones that are good by today's rules."""
    left: Counter[str] = Counter()
    found = {ended: _ended(run, asked, ended) for ended in asked.ended}
    works = [
        Work(
            w.image_id, w.profile, ended if not w.reason else f"{ended}: {w.reason}", "revive", w.captured_at, w.boxes,
            None, state=w.state,
        )
        for ended, states in found.items()
        if ended != "quarantined"
        for w in states
    ]  # fmt: skip
    sheets, again = _good_now(run, found.get("quarantined", []), left)
    return Plan(ordered([*works, *again], asked.order), sheets=sheets, left=left)


def _ended(run: Run, asked: Replayed, ended: Ended) -> list[ImageState]:
    permanent = [code for code, failure in FAILURES.items() if not failure.transient]
    reasons = list(asked.reasons)
    if ended == "partial":  # done, but some of its boxes failed for good
        reasons = [code for code in permanent if code in reasons] if reasons else permanent
        if not reasons:
            return []
    photos = asked.photos
    states: Sequence[WorkState] = ["done"] if ended == "partial" else [ended]
    found = run.state.find_images(
        states=states,
        # The reason of a quarantined work is a list of expectations.
        reasons=reasons if ended != "quarantined" else [],
        sources=[run.settings.api.source],
        stores=photos.stores,
        cameras=photos.cameras,
        profiles=photos.profiles,
        since=in_utc(photos.since) if photos.since else None,
        until=in_utc(photos.until) if photos.until else None,
        limit=_AT_MOST,
    )
    if ended == "quarantined" and reasons:
        return [work for work in found if set((work.reason or "").split(",")) & set(reasons)]
    return found


def _good_now(run: Run, found: Sequence[ImageState], left: Counter[str]) -> tuple[list[Sheet], list[Work]]:
    """The manifests of quarantined works, and those of them whose row is good by today's rules."""
    keys = list(dict.fromkeys(work.manifest for work in found))
    sheets, number_of = [Sheet(key, None) for key in keys], {key: number for number, key in enumerate(keys)}
    rows = {(number_of[w.manifest], w.manifest_row): _row(number_of[w.manifest], w) for w in found}
    if rows:
        judge_rows(list(rows.values()), sheets, run.spec, _Rules(run).judge)
    works = []
    for work in found:
        row = rows[number_of[work.manifest], work.manifest_row]
        if row.broken:
            left[f"still bad: {', '.join(row.broken)}"] += 1
        elif work.profile not in run.settings.profiles:
            left["its profile is no longer set"] += 1
        else:
            works.append(
                Work(row.image_id, work.profile, "good now", "register", row.captured_at, row.boxes, row.bytes, row)
            )
    return sheets, works


def _row(sheet: int, work: ImageState) -> Row:
    return Row(
        sheet=sheet,
        row=work.manifest_row,
        image_id=work.image_id,
        version=work.version,
        content_hash="",
        captured_at=work.captured_at or datetime.now(UTC),
        updated_at=work.updated_at,
        store_id=work.store_id,
        camera_id=work.camera_id,
        bytes=None,
    )


def _announced(run: Run, asked: Asked) -> Announced:
    api = run.settings.api
    if asked.announced == "manifests":
        return landed(run.spec, api.source, asked.photos)
    pages = paced(image_api.pages(api, start_of(asked.photos, api)))
    return polled(pages, api, asked.photos, run.folder, asked.limits.api_calls)


class _Rules:
    """The manifest suite over rows from anywhere, and the same budget of bad ones as a poll has."""

    def __init__(self, run: Run) -> None:
        self._run = run
        stores = read_stores(run.spec, run.settings.engine.stores)
        self._stores = set(stores["store_id"].to_pylist()) if stores.num_rows else None
        self.broken: Counter[str] = Counter()
        self.bad = 0

    def judge(self, rows: pa.Table) -> dict[int, list[str]]:
        from expectations.validate import validate_manifest

        settings = self._run.settings
        verdict = validate_manifest(
            rows,
            settings.expectations,
            run_name=self._run.context.run_name,
            now=datetime.now(UTC),
            allowed_hosts=settings.fetch.allowed_hosts,
            known_stores=self._stores,
        )
        if verdict.critical:
            raise ManifestRejected(f"the announced rows are broken as a whole ({', '.join(verdict.critical)})")
        self.bad += len(verdict.bad_rows)
        self.broken.update(name for names in verdict.bad_rows.values() for name in names)
        return verdict.bad_rows

    def check_budget(self, rows: int) -> None:
        rules = self._run.settings.expectations
        if rows < rules.min_rows_for_budget or self.bad <= rules.max_quarantined_fraction * rows:
            return
        common = ", ".join(f"{name} {count}" for name, count in self.broken.most_common(3))
        raise ManifestRejected(
            f"{self.bad} of {rows} announced rows are bad ({common}), more than max_quarantined_fraction = "
            f"{rules.max_quarantined_fraction}; nothing was done"
        )


def _bad(run: Run, chosen: Chosen, left: Counter[str]) -> list[Row]:
    """Bad rows that the state does not know as they are."""
    fresh, held = of_bad(chosen.bad, _quarantined_versions(run, chosen.bad))
    if held:
        left["in quarantine, and still bad"] += held
    return fresh


def _quarantined_versions(run: Run, rows: Iterable[Row]) -> dict[str, str]:
    ids = [row.image_id for row in rows]
    found: dict[str, str] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        works = run.state.find_images(
            sources=[run.settings.api.source], images=ids[start : start + IDS_AT_ONCE], limit=IDS_AT_ONCE * 1_000
        )
        # A photo that is done or waiting keeps its last good version; a bad one changes nothing of it.
        found |= {work.image_id: work.version for work in works if work.state == "quarantined"}
        rest = {work.image_id for work in works if work.state != "quarantined"}
        found |= {row.image_id: row.version for row in rows if row.image_id in rest}
    return found
