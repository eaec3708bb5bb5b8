"""take_in: the one path from the image API to the state table, for every flow that polls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from cropline.core.errors import ManifestRejected
from cropline.intake.image_api import unread
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import Run
from cropline.reports.problems import problem_lines
from tasks.crop import warm_up
from tasks.delete import delete_announced
from tasks.land import Landed, land, land_task
from tasks.poll import Polled, poll, poll_task, remember_files
from tasks.register import register, register_task
from tasks.run_status import emit_on_failure
from tasks.validate import Validated, validate, validate_task, without_validation

if TYPE_CHECKING:
    from cropline.state import Registered


class _Poll(Protocol):
    def __call__(self, run: Run, look_back: timedelta | None) -> Polled: ...


class _Land(Protocol):
    def __call__(self, run: Run, polled: Polled) -> Landed: ...


class _Validate(Protocol):
    def __call__(self, run: Run, manifest_key: str) -> Validated: ...


class _Register(Protocol):
    def __call__(self, run: Run, polled: Polled, validated: Validated) -> Registered: ...


@dataclass(frozen=True)
class IntakeSteps:
    """The steps of an intake: as Prefect tasks, which the UI shows, or as plain functions, which add no overhead."""

    poll: _Poll
    land: _Land
    validate: _Validate
    register: _Register


SHOWN = IntakeSteps(poll_task, land_task, validate_task, register_task)
PLAIN = IntakeSteps(poll, land, validate, register)


def take_in(run: Run, look_back: timedelta | None, steps: IntakeSteps = SHOWN) -> Funnel:
    """Land, validate and register what the API announced. Return the counts of this poll.

    ``look_back``: an overlap that replaces that of the settings. Raise ApiError, ManifestRejected.
    """
    run.half = part = Funnel()
    _take_in(run, part, look_back, steps)
    run.half = Funnel()
    run.add(part)
    return part


def _take_in(run: Run, part: Funnel, look_back: timedelta | None, steps: IntakeSteps) -> None:
    with run.spans.span("poll", source=run.settings.api.source) as span:
        polled = steps.poll(run, look_back)
        span.note(items=polled.items, fresh=polled.fresh)
    part.polled, part.repeated = polled.items, polled.items - polled.fresh
    part.deleted = delete_announced(run, polled)
    if polled.fresh:
        _land(run, part, polled, steps)
    remember_files(run, polled)
    if polled.problems:
        raise unread(polled.problems)


def _land(run: Run, part: Funnel, polled: Polled, steps: IntakeSteps) -> None:
    warm_up(run, polled.fresh)
    with run.spans.span("land") as span:
        landed = steps.land(run, polled)
        span.note(rows=landed.rows)
    part.landed, part.manifest = landed.rows, landed.key
    if run.settings.api.group_by_image:
        part.joined = polled.fresh - landed.rows
    validated = judge(run, part, landed.key, steps)
    with run.spans.span("register") as span:
        registered = steps.register(run, polled, validated)
        span.note(new=registered.new, changed=registered.changed, known=registered.known)
    part.new, part.changed, part.known = registered.new, registered.changed, registered.known
    part.corrected = registered.corrected


def judge(run: Run, part: Funnel, manifest_key: str, steps: IntakeSteps = SHOWN) -> Validated:
    """Validate a landed manifest and count its rows in ``part``.

    Raise ManifestRejected when no row may be registered.
    """
    with emit_on_failure(run, without_validation(run, manifest_key)), run.spans.span("validate") as span:
        validated = steps.validate(run, manifest_key)
        span.note(valid=validated.counts.valid, quarantined=validated.counts.quarantined)
    part.add(validated.counts)
    if validated.rejected is not None:
        error = ManifestRejected(validated.rejected)
        for line in problem_lines(validated.counts):
            error.add_note(line)
        raise error
    return validated
