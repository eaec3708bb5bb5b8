"""Each rule of the manifest suite: rows that break only this rule, and rows that nearly break it."""

from datetime import UTC, timedelta
from typing import Any

import pytest

from cropline.config.expectations import ExpectationSettings
from cropline.config.settings import ApiSettings
from expectations.manifest import SHAPE_RULES, VERSION_RULES, row_rules
from expectations.validate import Verdict, validate_manifest
from tests.unit.expectations.rows import NOW, box, item, landed

HOSTS = ("photos.example", "cams.example:8443", "[2001:db8::1]")
RULES = ExpectationSettings(max_boxes=5, max_age=timedelta(days=30), max_ahead=timedelta(hours=1))

LONG_AGO = (NOW - timedelta(days=30, seconds=1)).isoformat()
ALMOST_LONG_AGO = (NOW - timedelta(days=30)).isoformat()
AHEAD = (NOW + timedelta(hours=1, seconds=1)).isoformat()
ALMOST_AHEAD = (NOW + timedelta(hours=1)).isoformat()
ELSEWHERE = NOW.astimezone(UTC).isoformat().replace("+00:00", "+14:00")

# Fault -> (changes to a good item, the rules that the row must break, in the suite's order).
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "no id": ({"id": None}, ["image_id_present"]),
    "empty id": ({"id": ""}, ["image_id_present"]),
    "blank id": ({"id": " \t"}, ["image_id_present"]),
    "an id that is a number": ({"id": 17}, []),
    "an id that is a list": ({"id": ["a"]}, ["image_id_present", "fields_readable"]),
    "longest id": ({"id": "ü" * 1024}, []),
    "too long an id": ({"id": "ü" * 1025}, ["image_id_length"]),
    "no version": ({"etag": None, "sha256": None, "updated_at": None}, ["version_present", "updated_at_present"]),
    "version from the hash": ({"etag": None}, []),
    "no store and no camera": ({"store_id": None, "camera_id": None}, []),
    "unknown store": ({"store_id": "s9"}, []),
    "no address": ({"url": None}, ["url_present"]),
    "a file": ({"url": "file:///etc/passwd"}, ["url_scheme", "url_well_formed"]),
    "ftp": ({"url": "ftp://photos.example/1.jpg"}, ["url_scheme"]),
    "capital scheme and host": ({"url": "HTTPS://Photos.Example/1.jpg"}, []),
    "no scheme": ({"url": "photos.example/1.jpg"}, ["url_scheme", "url_well_formed"]),
    "empty address": ({"url": ""}, ["url_scheme", "url_well_formed"]),
    "no host": ({"url": "https:///1.jpg"}, ["url_well_formed"]),
    # Landing encodes what follows the host; the host itself cannot be encoded.
    "blank in the path": ({"url": "https://photos.example/a b.jpg"}, []),
    "blank in the host": ({"url": "https://photos .example/1.jpg"}, ["url_well_formed"]),
    "line end in the address": ({"url": "https://photos.example/1.jpg\n"}, ["url_well_formed"]),
    "no-break space in the path": ({"url": "https://photos.example/\u00a0.jpg"}, []),
    "no-break space in the host": (
        {"url": "https://photos\u00a0.example/1.jpg"},
        ["url_well_formed"],
    ),
    "backslash": ({"url": "http://127.0.0.1:80\\@photos.example/"}, ["url_well_formed", "url_without_user"]),
    "user and password": ({"url": "https://u:p@photos.example/1.jpg"}, ["url_without_user"]),
    "an @ in the path": ({"url": "https://photos.example/a@b.jpg?c@d"}, []),
    "odd port": ({"url": "https://photos.example:port/1.jpg"}, ["url_well_formed"]),
    "host elsewhere": ({"url": "https://evil.example/1.jpg"}, ["url_host_allowed"]),
    "host that ends alike": ({"url": "https://notphotos.example/1.jpg"}, ["url_host_allowed"]),
    "host that starts alike": ({"url": "https://photos.example.evil.example/"}, ["url_host_allowed"]),
    "listed with its port": ({"url": "https://cams.example:8443/1.jpg"}, []),
    "listed with another port": ({"url": "https://cams.example/1.jpg"}, ["url_host_allowed"]),
    "another port where each is listed": ({"url": "https://photos.example:9/1.jpg"}, []),
    "IPv6 host": ({"url": "https://[2001:db8::1]/1.jpg"}, []),
    "no time of capture": ({"captured_at": None}, ["captured_at_present"]),
    "unreadable time": ({"captured_at": "yesterday"}, ["fields_readable", "captured_at_present"]),
    "captured ahead": ({"captured_at": AHEAD}, ["captured_at_not_ahead"]),
    "captured a little ahead": ({"captured_at": ALMOST_AHEAD}, []),
    "captured in a zone far east": ({"captured_at": ELSEWHERE}, []),
    "captured long ago": ({"captured_at": LONG_AGO}, ["captured_at_recent"]),
    "captured almost long ago": ({"captured_at": ALMOST_LONG_AGO}, []),
    "captured in the year 1": ({"captured_at": "0001-01-01T00:00:00Z"}, ["captured_at_recent"]),
    "captured in the year 9999": ({"captured_at": "9999-12-31T23:59:59Z"}, ["captured_at_not_ahead"]),
    "no time of update": ({"updated_at": None}, ["updated_at_present"]),
    "updated ahead": ({"updated_at": AHEAD}, ["updated_at_not_ahead"]),
    "updated long ago": ({"updated_at": LONG_AGO}, []),
    "no boxes": ({"boxes": None}, ["boxes_present"]),
    "boxes that are no list": ({"boxes": {"a": 1}}, ["fields_readable", "boxes_present"]),
    "an empty list of boxes": ({"boxes": []}, []),
    "as many boxes as may be": ({"boxes": [box(id=str(n), xmin=n / 100) for n in range(5)]}, []),
    "too many boxes": ({"boxes": [box(id=str(n), xmin=n / 100) for n in range(6)]}, ["boxes_not_too_many"]),
    "xmin is text": ({"boxes": [box(xmin="left")]}, ["boxes_readable", "boxes_finite"]),
    "a label that is a list": ({"boxes": [box(label=["cola"])]}, ["boxes_readable"]),
    "a box and a width that are text": (
        {"boxes": [box(xmin="left")], "width": "wide"},
        ["fields_readable", "boxes_readable", "boxes_finite"],
    ),
    "xmin is missing": ({"boxes": [box(xmin=None)]}, ["boxes_finite"]),
    "ymax is not a number": ({"boxes": [box(ymax=float("nan"))]}, ["boxes_finite"]),
    "xmax is infinite": ({"boxes": [box(xmax=float("inf"))]}, ["boxes_finite"]),
    "the second box is bad": ({"boxes": [box(), box(id="b1", ymin=None)]}, ["boxes_finite"]),
    "sticks out a little": ({"boxes": [box(xmin=-0.02)]}, []),
    "sticks out by half the picture": ({"boxes": [box(xmin=-0.5, ymax=1.5)]}, []),
    "sticks out by more": ({"boxes": [box(xmin=-0.501)]}, ["boxes_in_range"]),
    "sticks out far below": ({"boxes": [box(ymax=1.501)]}, ["boxes_in_range"]),
    "pixels sent as shares": ({"boxes": [box(xmin=57.0, xmax=120.0)]}, ["boxes_in_range"]),
    "left and right exchanged": ({"boxes": [box(xmin=0.3, xmax=0.1)]}, ["boxes_ordered"]),
    "top and bottom exchanged": ({"boxes": [box(ymin=0.5, ymax=0.2)]}, ["boxes_ordered"]),
    "both exchanged": ({"boxes": [box(xmin=0.3, xmax=0.1, ymin=0.5, ymax=0.2)]}, ["boxes_ordered"]),
    "exchanged and far out": ({"boxes": [box(xmin=9.0, xmax=0.1)]}, ["boxes_in_range", "boxes_ordered"]),
    "a line": ({"boxes": [box(xmin=0.3)]}, ["boxes_have_area"]),
    "a point": ({"boxes": [box(xmin=0.3, ymin=0.5)]}, ["boxes_have_area"]),
    "one id twice": ({"boxes": [box(), box(xmin=0.2)]}, ["box_ids_unique"]),
    "no box ids": ({"boxes": [box(id=None), box(id=None, xmin=0.2)]}, []),
    "one rectangle twice": ({"boxes": [box(), box(id="b1")]}, []),
    "no declared sizes": ({"width": None, "height": None, "bytes": None, "sha256": None}, []),
    "no width": ({"width": 0}, ["width_positive"]),
    "negative height": ({"height": -1}, ["height_positive"]),
    "no bytes": ({"bytes": 0}, ["bytes_positive"]),
    "a short hash": ({"sha256": "a" * 63}, ["sha256_form"]),
    "a hash with a line end": ({"sha256": "a" * 64 + "\n"}, ["sha256_form"]),
    "a hash in capitals": ({"sha256": "A" * 64}, []),
    "a hash that is none": ({"sha256": "g" * 64}, ["sha256_form"]),
}


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    manifest = landed(item(at, **changes) for at, (changes, _) in enumerate(CASES.values()))
    return validate_manifest(manifest, RULES, run_name="unit", now=NOW, allowed_hosts=HOSTS, known_stores={"s1"})


@pytest.mark.parametrize("case", CASES)
def test_a_row_breaks_what_it_should_and_nothing_else(verdict: Verdict, case: str) -> None:
    assert verdict.bad_rows.get(list(CASES).index(case), []) == CASES[case][1]


def test_every_warning_on_single_rows_is_broken_by_some_case() -> None:
    warnings = {rule.name for rule in row_rules(RULES, hosts=HOSTS, stores={"s1"}) if rule.severity == "warning"}
    # Landing writes these two from settings, so items cannot break their rules.
    assert warnings - {name for _, broken in CASES.values() for name in broken} == {
        "coordinates_known",
        "orientation_known",
    }


def test_what_only_informs_is_counted_and_quarantines_nothing(verdict: Verdict) -> None:
    counts = {outcome.name: outcome.unexpected for outcome in verdict.outcomes if outcome.severity == "info"}
    assert counts == {
        "store_id_present": 1,
        "camera_id_present": 1,
        "boxes_some": 1,
        "box_ids_present": 1,
        "boxes_distinct": 1,
        "store_known": 1,
        "version_newest": 0,
    }


def test_outcomes_count_what_was_looked_at(verdict: Verdict) -> None:
    outcomes = {outcome.name: outcome for outcome in verdict.outcomes}
    assert outcomes["image_id_present"].evaluated == len(CASES)
    assert outcomes["url_scheme"].evaluated == len(CASES) - 1  # one has no URL
    assert outcomes["captured_at_recent"].column == "captured_at"
    assert outcomes["columns_present"].column is None
    assert not outcomes["image_id_present"].success
    assert outcomes["row_unique"].success


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (timedelta(hours=1), "at most 1 hour in the future"),
        (timedelta(minutes=90), "at most 1.5 hours in the future"),
        (timedelta(days=2), "at most 2 days in the future"),
        (timedelta(0), "at most 0 s in the future"),
    ],
)
def test_limits_are_said_as_people_say_them(ahead: timedelta, text: str) -> None:
    rules = {rule.name: rule.description for rule in row_rules(ExpectationSettings(max_ahead=ahead))}
    assert rules["captured_at_not_ahead"] == f"Captured {text}"


def test_rule_names_are_distinct_words() -> None:
    names = [rule.name for rule in (*SHAPE_RULES, *row_rules(RULES, hosts=HOSTS, stores=()), *VERSION_RULES)]
    assert len(names) == len(set(names))
    assert all(name.replace("_", "").isascii() and name == name.lower() for name in names)
    assert all(name.replace("_", "").isalnum() for name in names)


PIXELS = ApiSettings(coordinates="pixels")
STORED = ApiSettings(coordinates="pixels", orientation="stored")


@pytest.mark.parametrize(
    ("api", "changes", "broken"),
    [
        (PIXELS, {"boxes": [box(xmin=57, ymin=80, xmax=4000, ymax=3000)]}, []),
        (PIXELS, {"boxes": [box(xmin=57, ymin=80, xmax=6000, ymax=4500)]}, []),
        (PIXELS, {"boxes": [box(xmin=57, ymin=80, xmax=6001, ymax=3000)]}, ["boxes_in_range"]),
        (PIXELS, {"boxes": [box(xmin=57, ymin=80, xmax=4000, ymax=4501)]}, ["boxes_in_range"]),
        # A picture stored rotated is 3000 wide and 4000 high, but declared as 4000 by 3000.
        (STORED, {"boxes": [box(xmin=57, ymin=80, xmax=400, ymax=6000)]}, []),
        (STORED, {"boxes": [box(xmin=57, ymin=80, xmax=400, ymax=6001)]}, ["boxes_in_range"]),
        (PIXELS, {"boxes": [box(xmin=57, ymin=80, xmax=9000, ymax=9000)], "width": None, "height": None}, []),
        (
            PIXELS,
            {"boxes": [box(xmin=57, ymin=80, xmax=1e9, ymax=9)], "width": None},
            ["boxes_in_range", "boxes_ordered"],
        ),
    ],
)
def test_pixels_are_measured_by_the_declared_size(api: ApiSettings, changes: dict[str, Any], broken: list[str]) -> None:
    verdict = validate_manifest(landed([item(0, **changes)], api), RULES, run_name="unit", now=NOW)
    assert verdict.bad_rows == ({0: broken} if broken else {})


def test_a_manifest_of_other_conventions_is_not_guessed_at() -> None:
    manifest = landed([item(0)])
    for name in ("coordinates", "orientation"):
        manifest = manifest.set_column(manifest.schema.get_field_index(name), name, [["percent"]])
    verdict = validate_manifest(manifest, RULES, run_name="unit", now=NOW)
    assert verdict.bad_rows == {0: ["coordinates_known", "orientation_known"]}


def test_bad_boxes_can_be_left_to_the_crop_job() -> None:
    boxes = [
        box(),
        box(id="b1", xmin="left"),
        box(id="b2", xmin=0.9, xmax=0.1),
        box(id="b3", ymax=57.0),
        box(id="b4", xmin=0.3),
    ]
    items = [item(0, boxes=boxes), item(1, boxes=[box(), box()]), item(2, boxes=boxes, width=0), item(3, boxes=None)]
    verdict = validate_manifest(landed(items), RULES, run_name="unit", now=NOW, boxes_fail_alone=True)
    assert verdict.bad_rows == {1: ["box_ids_unique"], 2: ["width_positive"], 3: ["boxes_present"]}
    counts = {outcome.name: outcome.unexpected for outcome in verdict.outcomes if outcome.severity == "info"}
    faults = ("boxes_readable", "boxes_finite", "boxes_in_range", "boxes_ordered", "boxes_have_area")
    assert {name: counts[name] for name in faults} == dict.fromkeys(faults, 2)


EARLY, LATE = ({"updated_at": f"2026-11-22T{hour}:00:00Z"} for hour in ("05", "07"))


@pytest.mark.parametrize(
    ("items", "superseded", "bad"),
    [
        ([item(0), item(0)], {0}, {}),
        ([item(0), item(1), item(0), item(0)], {0, 2}, {}),
        ([item(0, etag="old", **LATE), item(0)], {0}, {}),
        ([item(0), item(0, etag="old", **LATE)], {1}, {}),
        # Equal times: the API listed the later row last.
        ([item(0, etag="a"), item(0, etag="b")], {0}, {}),
        ([item(0, etag="a"), item(0, etag="b"), item(0, etag="a")], {0, 1}, {}),
        # A new signature makes no new row. The last URL is the newest.
        ([item(0, url="https://photos.example/a?sig=1"), item(0, url="https://photos.example/a?sig=2")], {0}, {}),
        # The same version and time, but another photo: the right row is unknown.
        ([item(0, boxes=[box(xmax=0.9)]), item(0)], set(), {0: ["version_unambiguous"]}),
        ([item(0, store_id="s2"), item(0)], set(), {0: ["version_unambiguous"]}),
        ([item(0, store_id="s2"), item(0), item(0, etag="b")], {0, 1}, {}),
        # A bad version that was corrected is superseded too; one without a time is not.
        ([item(0, etag="old", boxes=None, **LATE), item(0)], {0}, {}),
        ([item(0, boxes=None, **EARLY), item(0, etag="x", boxes=None, **LATE), item(0)], {0, 1}, {}),
        (
            [item(0, etag="old", updated_at="soon"), item(0)],
            set(),
            {0: ["fields_readable", "updated_at_present"]},
        ),
        # A bad newest version does not supersede the good one before it.
        ([item(0, etag="old", **LATE), item(0, boxes=None)], set(), {1: ["boxes_present"]}),
        ([item(0, boxes=None), item(0)], set(), {0: ["boxes_present"]}),
        ([item(0, boxes=None), item(0, boxes=None)], {0}, {1: ["boxes_present"]}),
        # Ids that differ only slightly, and rows without an id.
        ([item(0, id="A"), item(0, id="a"), item(0, id="a ")], set(), {}),
        ([item(0, id=None), item(0, id=None)], set(), {0: ["image_id_present"], 1: ["image_id_present"]}),
    ],
)
def test_one_version_of_an_image_goes_on_and_the_others_are_superseded_not_bad(
    items: list[dict[str, Any]], superseded: set[int], bad: dict[int, list[str]]
) -> None:
    verdict = validate_manifest(landed(items), RULES, run_name="unit", now=NOW)
    assert (verdict.superseded, verdict.bad_rows) == (superseded, bad)


def test_of_equal_rows_with_several_times_the_newest_goes_on() -> None:
    items = [item(0, updated_at=f"2026-11-22T0{hour}:00:00Z") for hour in (6, 8, 7)]
    assert validate_manifest(landed(items), RULES, run_name="unit", now=NOW).superseded == {0, 2}


def test_the_error_budget_is_a_share_of_the_rows_that_count() -> None:
    verdict = Verdict({9: ["boxes_present"]}, [], [], rows=30, docs_url=None, superseded=frozenset(range(20, 30)))
    rules = ExpectationSettings(min_rows_for_budget=20, max_quarantined_fraction=0.04)
    assert verdict.exceeds_budget(rules)
    assert not verdict.exceeds_budget(rules.model_copy(update={"max_quarantined_fraction": 0.05}))
    assert not verdict.exceeds_budget(rules.model_copy(update={"min_rows_for_budget": 21}))


def test_a_camera_that_the_store_does_not_have_is_counted_and_quarantines_nothing() -> None:
    items = [
        item(0),
        item(1, camera_id="other"),
        item(2, store_id="s2"),
        item(3, camera_id=None),
        item(4, store_id=None),
    ]
    known = item(0)["store_id"], item(0)["camera_id"]
    verdict = validate_manifest(landed(items), RULES, run_name="unit", now=NOW, known_cameras={known, ("s2", "c9")})
    assert verdict.bad_rows == {}
    (outcome,) = [outcome for outcome in verdict.outcomes if outcome.name == "camera_known"]
    assert (outcome.severity, outcome.unexpected) == ("info", 2)


STORED: dict[str, tuple[str, list[str]]] = {
    "a bucket": ("s3://bucket/a b/ü#%41.jpg", []),
    "a container by its account": ("abfss://c@account.dfs.core.windows.net/x.jpg", []),
    "a folder": ("file:///photos/x.jpg", []),
    "a cloud that is not allowed": ("gs://bucket/x.jpg", ["url_scheme", "url_host_allowed"]),
    "a key with a backslash": ("s3://bucket/a\\b.jpg", ["url_well_formed"]),
    "http all the same": ("http://elsewhere.example/x.jpg", ["url_host_allowed"]),
}


def test_addresses_of_buckets_and_folders_are_good_where_the_settings_allow_them() -> None:
    manifest = landed([item(n, url=url) for n, (url, _) in enumerate(STORED.values())])
    schemes = ("s3", "az", "abfss", "file")
    verdict = validate_manifest(manifest, RULES, run_name="t", now=NOW, allowed_hosts=HOSTS, stored_schemes=schemes)
    found = {name: verdict.bad_rows.get(row, []) for row, name in enumerate(STORED)}
    assert found == {name: broken for name, (_, broken) in STORED.items()}
