"""What a good manifest is: every rule with its name, its severity and the sentence that people read. One place.

Belongs here: the rules, as data. Does not: the columns they look at (columns.py) or running them (gx.py, validate.py).

critical  the manifest's shape is wrong: the run fails, nothing is registered
warning   the row is quarantined, with the names of the rules it broke
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
# How far a coordinate may lie outside the picture, as a share of its side. A detector's overhang and rounding stay well
# inside and are clipped where crops are cut; pixels sent as normalised (57.0) do not.
OVERSHOOT = 0.5


@dataclass(frozen=True)
class Check:
    """A condition on each value of a column. Nulls pass all but not_null: an absent optional value is no fault."""

    kind: CheckKind
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One expectation. ``field``: the manifest's column it is about; ``column``: the derived column it looks at."""

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
    Rule("columns_present", "*", "type", PRESENT, "Every column of a manifest is there", "critical"),
    Rule("columns_typed", "*", "type_is_right", YES, "Every column has the type of a manifest", "critical"),
)

ROW_KEY_RULES = (
    Rule("row_present", "row", "row", PRESENT, "Every row has its position", "critical"),
    Rule("row_unique", "row", "row", Check("unique"), "No two rows have the same position", "critical"),
)

# A superseded row is no fault: it is counted, and neither registered nor quarantined.
SUPERSEDED = Rule("version_newest", "version", "superseded", NONE, "An image comes once, in its newest version", "info")
VERSION_RULES = (
    SUPERSEDED,
    Rule("version_unambiguous", "version", "ambiguous", NONE, "Rows of one version and time say the same"),
)

# What only these rules put into quarantine needs no replay: another row of its image went on. With the names of 0.1.
VERSION_RULE_NAMES = frozenset([*(rule.name for rule in VERSION_RULES), "row_not_repeated"])


def quarantine_rules() -> dict[str, str]:
    """Every rule that can put a row into quarantine, and its sentence."""
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
    """Every rule on single rows.

    ``hosts``: photos may come only from these, if any are named; ``schemes``: addresses may have these beside http and https; ``stores``: known ids; ``cameras``: known (store, camera); ``boxes_fail_alone``: what is
    wrong with single boxes only informs, and the crop job fails these boxes while their image goes on.
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
        Rule("version_present", "version", "version_length", PRESENT, "An image says which version it is"),
        Rule("fields_readable", "unreadable", "unreadable", ABSENT, "Every field of the image could be converted"),
        Rule(
            "store_id_present", "store_id", "store_id_length", PRESENT, "An image says which store it is from", "info"
        ),
        Rule("camera_id_present", "camera_id", "camera_id_length", PRESENT, "An image names its camera", "info"),
    )


def _url_rules(hosts: Collection[str], schemes: Collection[str]) -> tuple[Rule, ...]:
    scheme = Check("one_of", values=("http", "https", *schemes))
    well_formed = "The address has a host, and no blank, control character or backslash"
    rules = (
        Rule("url_present", "url", "url_scheme", PRESENT, "An image has an address"),
        Rule(
            "url_scheme",
            "url",
            "url_scheme",
            scheme,
            "The address is http, https, or of a bucket or folder that the settings allow",
        ),
        Rule("url_well_formed", "url", "url_malformed", NONE, well_formed),
        Rule("url_without_user", "url", "url_has_user", NONE, "The address holds no user or password"),
    )
    if not hosts:
        return rules
    allowed = Check("one_of", values=tuple(sorted(hosts)))
    return (*rules, Rule("url_host_allowed", "url", "url_host", allowed, "The photo's host is one of those allowed"))


def _time_rules(rules: ExpectationSettings) -> tuple[Rule, ...]:
    ahead, age = rules.max_ahead, rules.max_age
    not_ahead = Check("between", low=-ahead.total_seconds())
    not_old = Check("between", high=age.total_seconds())
    captured, updated, most = "captured_s_ago", "updated_s_ago", f"at most {_span(ahead)} in the future"
    return (
        Rule("captured_at_present", "captured_at", captured, PRESENT, "The time of capture is there, and a time"),
        Rule("captured_at_not_ahead", "captured_at", captured, not_ahead, f"Captured {most}"),
        Rule("captured_at_recent", "captured_at", captured, not_old, f"Captured at most {_span(age)} ago"),
        Rule("updated_at_present", "updated_at", updated, PRESENT, "The time of update is there, and a time"),
        # The cursor follows it: one row of the year 2099 would end polling.
        Rule("updated_at_not_ahead", "updated_at", updated, not_ahead, f"Updated {most}"),
    )


def _span(span: timedelta) -> str:
    """A length of time as people say it: 3650 days, 1.5 hours, 90 s."""
    for unit, length in (("days", timedelta(days=1)), ("hours", timedelta(hours=1))):
        if span >= length:
            return f"{span / length:g} {unit.removesuffix('s') if span == length else unit}"
    return f"{span.total_seconds():g} s"


def _list_of_boxes_rules(rules: ExpectationSettings) -> tuple[Rule, ...]:
    units, turns = Check("one_of", values=("normalised", "pixels")), Check("one_of", values=("upright", "stored"))
    most = Check("between", high=rules.max_boxes)
    return (
        Rule("coordinates_known", "coordinates", "coordinates", units, "Coordinates are normalised or pixels"),
        Rule("orientation_known", "orientation", "orientation", turns, "Boxes are of the upright or stored picture"),
        Rule("boxes_present", "boxes", "boxes", PRESENT, "An image has a list of boxes, if an empty one"),
        Rule("boxes_some", "boxes", "boxes", POSITIVE, "An image has at least one box", "info"),
        Rule("boxes_not_too_many", "boxes", "boxes", most, f"An image has at most {rules.max_boxes} boxes"),
        Rule("box_ids_unique", "boxes", "box_ids_repeated", NONE, "No two boxes of an image share an id"),
        Rule("box_ids_present", "boxes", "boxes_without_id", NONE, "Every box has an id", "info"),
        Rule("boxes_distinct", "boxes", "boxes_repeated", NONE, "No rectangle comes twice with the same label", "info"),
    )


def _single_box_rules(severity: Severity) -> tuple[Rule, ...]:
    """What one box can break without any other. The crop job has a reason code for each."""
    in_range = f"No box lies further outside the picture than {OVERSHOOT:g} of its side"
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
    # A shop that opened this morning must not wait for the store table: its crops only lack the store's name.
    if stores is not None:
        rules += (Rule("store_known", "store_id", "store_unknown", NONE, "The store is in the store table", "info"),)
    if cameras is not None:
        known = "The store table knows the camera as one of the store's"
        rules += (Rule("camera_known", "camera_id", "camera_unknown", NONE, known, "info"),)
    return rules
