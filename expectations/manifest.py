"""The rules of a good manifest, as data: each with its name, severity and description.

critical  the manifest's shape is wrong: the run fails, nothing is registered
warning   the row is quarantined, with the names of the rules that it broke
info      counted and shown, nothing else
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from cropline.config.expectations import ExpectationSettings

Severity = Literal["critical", "warning", "info"]
CheckKind = Literal["not_null", "null", "between", "one_of", "unique"]

MAX_ID_LENGTH = 1024
# How far a coordinate may be outside the picture, as a fraction of its side. A detector's overhang and
# rounding stay well below it and are clipped when crops are cut. Pixels sent as normalised values (57.0)
# exceed it.
OVERSHOOT = 0.5


@dataclass(frozen=True)
class Check:
    """A condition on each value of a column. Nulls pass all kinds but not_null: an optional value may be missing."""

    kind: CheckKind
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One expectation. ``field``: the manifest's column that it is about. ``column``: the derived column it checks."""

    name: str
    field: str
    column: str
    check: Check
    description: str
    severity: Severity = "warning"


PRESENT = Check("not_null")
ABSENT = Check("null")
NONE = Check("between", high=0)
POSITIVE = Check("between", low=1)
YES = Check("between", low=1, high=1)

SHAPE_RULES = (
    Rule("columns_present", "*", "type", PRESENT, "A manifest has every required column", "critical"),
    Rule("columns_typed", "*", "type_is_right", YES, "Every column has the required type", "critical"),
)

ROW_KEY_RULES = (
    Rule("row_present", "row", "row", PRESENT, "Every row has its position", "critical"),
    Rule("row_unique", "row", "row", Check("unique"), "No two rows have the same position", "critical"),
)

# A superseded row is not a fault. It is counted, but neither registered nor quarantined.
SUPERSEDED = Rule("version_newest", "version", "superseded", NONE, "A row is the newest of its image", "info")
VERSION_RULES = (
    SUPERSEDED,
    Rule("version_unambiguous", "version", "ambiguous", NONE, "Rows of the same version and time are equal"),
)

# Rows that only these rules quarantined need no replay: another row of their image was used. row_not_repeated
# is from 0.1.
VERSION_RULE_NAMES = frozenset([*(rule.name for rule in VERSION_RULES), "row_not_repeated"])


def quarantine_rules() -> dict[str, str]:
    """Return every rule that can quarantine a row, with its description."""
    every = (*row_rules(ExpectationSettings(), hosts=("any",), stores=()), *VERSION_RULES)
    return {rule.name: rule.description for rule in every if rule.severity == "warning"}


def row_rules(
    rules: ExpectationSettings,
    *,
    hosts: Collection[str] = (),
    schemes: Collection[str] = (),
    stores: Collection[str] | None = None,
    cameras: Collection[tuple[str, str]] | None = None,
    boxes_fail_alone: bool = False,
) -> tuple[Rule, ...]:
    """Return every rule on single rows.

    ``hosts``: the only hosts that photos may come from; empty allows all. ``schemes``: allowed besides http and https.
    ``stores``: known ids. ``cameras``: known (store, camera). ``boxes_fail_alone``: rules on single boxes only inform;
    the crop job fails these boxes and cuts the others.
    """
    return (
        *ROW_KEY_RULES,
        *_identity_rules(),
        *_url_rules(hosts, schemes),
        *_time_rules(rules),
        *_list_of_boxes_rules(rules),
        *_single_box_rules("info" if boxes_fail_alone else "warning"),
        *_declared_rules(stores, cameras),
    )


def _identity_rules() -> tuple[Rule, ...]:
    length = Check("between", low=1, high=MAX_ID_LENGTH)
    return (
        Rule("image_id_present", "image_id", "image_id_length", PRESENT, "An image has an id"),
        Rule("image_id_length", "image_id", "image_id_length", length, f"An id has at most {MAX_ID_LENGTH} characters"),
        Rule("version_present", "version", "version_length", PRESENT, "An image has a version"),
        Rule("fields_readable", "unreadable", "unreadable", ABSENT, "Every field of an image could be converted"),
        Rule("store_id_present", "store_id", "store_id_length", PRESENT, "An image has a store id", "info"),
        Rule("camera_id_present", "camera_id", "camera_id_length", PRESENT, "An image has a camera id", "info"),
    )


def _url_rules(hosts: Collection[str], schemes: Collection[str]) -> tuple[Rule, ...]:
    scheme = Check("one_of", values=("http", "https", *schemes))
    well_formed = "The URL has a host, and no blank, control character or backslash"
    rules = (
        Rule("url_present", "url", "url_scheme", PRESENT, "An image has a URL"),
        Rule(
            "url_scheme",
            "url",
            "url_scheme",
            scheme,
            "The URL is http or https, or names a bucket or folder that the settings allow",
        ),
        Rule("url_well_formed", "url", "url_malformed", NONE, well_formed),
        Rule("url_without_user", "url", "url_has_user", NONE, "The URL has no user or password"),
    )
    if not hosts:
        return rules
    allowed = Check("one_of", values=tuple(sorted(hosts)))
    return (*rules, Rule("url_host_allowed", "url", "url_host", allowed, "The photo's host is an allowed one"))


def _time_rules(rules: ExpectationSettings) -> tuple[Rule, ...]:
    ahead, age = rules.max_ahead, rules.max_age
    not_ahead = Check("between", low=-ahead.total_seconds())
    not_old = Check("between", high=age.total_seconds())
    captured, updated, most = "captured_s_ago", "updated_s_ago", f"at most {_span(ahead)} in the future"
    return (
        Rule("captured_at_present", "captured_at", captured, PRESENT, "The time of capture is present and valid"),
        Rule("captured_at_not_ahead", "captured_at", captured, not_ahead, f"Captured {most}"),
        Rule("captured_at_recent", "captured_at", captured, not_old, f"Captured at most {_span(age)} ago"),
        Rule("updated_at_present", "updated_at", updated, PRESENT, "The time of update is present and valid"),
        # The cursor follows this time: one row of the year 2099 would stop polling.
        Rule("updated_at_not_ahead", "updated_at", updated, not_ahead, f"Updated {most}"),
    )


def _span(span: timedelta) -> str:
    """Return a duration as readable text: 3650 days, 1.5 hours, 90 s."""
    for unit, length in (("days", timedelta(days=1)), ("hours", timedelta(hours=1))):
        if span >= length:
            return f"{span / length:g} {unit.removesuffix('s') if span == length else unit}"
    return f"{span.total_seconds():g} s"


def _list_of_boxes_rules(rules: ExpectationSettings) -> tuple[Rule, ...]:
    units, turns = Check("one_of", values=("normalised", "pixels")), Check("one_of", values=("upright", "stored"))
    most = Check("between", high=rules.max_boxes)
    return (
        Rule("coordinates_known", "coordinates", "coordinates", units, "Coordinates are normalised or pixels"),
        Rule("orientation_known", "orientation", "orientation", turns, "Boxes refer to the upright or stored picture"),
        Rule("boxes_present", "boxes", "boxes", PRESENT, "An image has a list of boxes, which may be empty"),
        Rule("boxes_some", "boxes", "boxes", POSITIVE, "An image has at least one box", "info"),
        Rule("boxes_not_too_many", "boxes", "boxes", most, f"An image has at most {rules.max_boxes} boxes"),
        Rule("box_ids_unique", "boxes", "box_ids_repeated", NONE, "No two boxes of an image share an id"),
        Rule("box_ids_present", "boxes", "boxes_without_id", NONE, "Every box has an id", "info"),
        Rule(
            "boxes_distinct", "boxes", "boxes_repeated", NONE, "No two boxes have the same rectangle and label", "info"
        ),
    )


def _single_box_rules(severity: Severity) -> tuple[Rule, ...]:
    """Return the rules that single boxes break. The crop job has a reason code for each."""
    in_range = f"No box is further outside the picture than {OVERSHOOT:g} of its side"
    ordered = "No box has its sides exchanged: xmin <= xmax and ymin <= ymax"
    return (
        Rule(
            "boxes_readable",
            "boxes",
            "unreadable_in_boxes",
            ABSENT,
            "Every field of a box could be converted",
            severity,
        ),
        Rule("boxes_finite", "boxes", "boxes_not_finite", NONE, "Every coordinate is a finite number", severity),
        Rule("boxes_in_range", "boxes", "boxes_out_of_range", NONE, in_range, severity),
        Rule("boxes_ordered", "boxes", "boxes_inverted", NONE, ordered, severity),
        Rule("boxes_have_area", "boxes", "boxes_without_area", NONE, "Every box has an area", severity),
    )


def _declared_rules(stores: Collection[str] | None, cameras: Collection[tuple[str, str]] | None) -> tuple[Rule, ...]:
    rules: tuple[Rule, ...] = (
        Rule("width_positive", "width", "width", POSITIVE, "A declared width is positive"),
        Rule("height_positive", "height", "height", POSITIVE, "A declared height is positive"),
        Rule("bytes_positive", "bytes", "bytes", POSITIVE, "A declared size is positive"),
        Rule("sha256_form", "sha256", "sha256_malformed", NONE, "A declared hash is 64 hexadecimal digits"),
    )
    # A new shop need not wait for the store table: its crops only lack the store's name.
    if stores is not None:
        rules += (Rule("store_known", "store_id", "store_unknown", NONE, "The store is in the store table", "info"),)
    if cameras is not None:
        known = "The store table knows the camera as one of the store's"
        rules += (Rule("camera_known", "camera_id", "camera_unknown", NONE, known, "info"),)
    return rules
