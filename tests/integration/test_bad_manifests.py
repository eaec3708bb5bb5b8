"""3,000 rows, some good and some bad in every known way, each land where the table below says.

The path is the real one: items are landed as Parquet, read, validated, quarantined into another Parquet file,
and Data Docs are written. The oracle is the table: each change to an item names the rules that it breaks.
"""

import io
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cropline.config.expectations import ExpectationSettings
from cropline.config.settings import ApiSettings
from cropline.core.storage import list_keys, read, write
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest as landing
from cropline.intake import quarantine
from expectations.manifest import VERSION_RULES, row_rules
from expectations.quarantine import quarantine_table
from expectations.validate import Verdict, validate_manifest

SEED = 20261122
ROWS = 3_000
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
RULES = ExpectationSettings(max_boxes=40, max_age=timedelta(days=365))
HOSTS = ("photos.example",)
STORES = {f"s{n}" for n in range(20)}
CANARY = "canary7f3a"  # occurs in every field that can hold a secret

Item = dict[str, Any]


def a_box(number: int, dice: random.Random) -> Item:
    x, y = dice.uniform(0, 0.8), dice.uniform(0, 0.8)
    return {"id": f"b{number}", "xmin": x, "ymin": y, "xmax": x + 0.1, "ymax": y + 0.15, "label": "cola", "score": 0.9}


def good_item(number: int, dice: random.Random) -> Item:
    captured = NOW - timedelta(minutes=dice.randint(1, 10_000))
    return {
        "id": f"img-{number}",
        "etag": f"{dice.getrandbits(64):x}",
        "url": f"https://photos.example/{number}.jpg?X-Amz-Signature={CANARY}{number}&token={CANARY}",
        "captured_at": captured.isoformat(),
        "updated_at": (captured + timedelta(seconds=30)).isoformat(),
        "store_id": f"s{number % 20}",
        "camera_id": f"c{number % 7}",
        "width": 4000,
        "height": 3000,
        "bytes": 2_500_000,
        "sha256": f"{dice.getrandbits(256):064x}",
        "boxes": [a_box(n, dice) for n in range(dice.randint(1, 30))],
        "access_token": f"{CANARY}-attribute",
    }


def set_to(**changes: Any) -> Callable[[Item], None]:
    return lambda item: item.update(changes)


def first_box(**changes: Any) -> Callable[[Item], None]:
    return lambda item: item["boxes"][0].update(changes)


def more_boxes(item: Item) -> None:
    item["boxes"] = [item["boxes"][0] | {"id": f"m{n}", "xmin": n / 1000} for n in range(41)]


def one_id_twice(item: Item) -> None:
    item["boxes"] = [item["boxes"][0], item["boxes"][0] | {"xmin": 0.0}]


# Fault -> (the part of an item it changes, the change, the rules it breaks). Faults of different parts combine freely.
FAULTS: dict[str, tuple[str, Callable[[Item], None], set[str]]] = {
    "id missing": ("id", set_to(id=None), {"image_id_present"}),
    "id blank": ("id", set_to(id="  "), {"image_id_present"}),
    "id huge": ("id", set_to(id="x" * 1025), {"image_id_length"}),
    "id an object": ("id", set_to(id={"$oid": "1"}), {"image_id_present", "fields_readable"}),
    "url missing": ("url", set_to(url=None), {"url_present"}),
    "url a file": ("url", set_to(url=f"file:///etc/{CANARY}"), {"url_scheme", "url_well_formed"}),
    "url with a user": ("url", set_to(url=f"https://me:{CANARY}@photos.example/1.jpg"), {"url_without_user"}),
    "url of another host": ("url", set_to(url=f"https://evil.example/?k={CANARY}"), {"url_host_allowed"}),
    "url with a backslash": (
        "url",
        set_to(url=f"http://me:{CANARY}\\@photos.example/"),
        {"url_well_formed", "url_without_user"},
    ),
    "url with a tab": ("url", set_to(url=f"https://photos.example/a\tb?sig={CANARY}"), {"url_well_formed"}),
    "captured nowhen": ("captured_at", set_to(captured_at=None), {"captured_at_present"}),
    "captured yesterday": ("captured_at", set_to(captured_at="yesterday"), {"captured_at_present", "fields_readable"}),
    "captured next year": ("captured_at", set_to(captured_at="2027-11-22T00:00:00Z"), {"captured_at_not_ahead"}),
    "captured years ago": ("captured_at", set_to(captured_at="2020-01-01T00:00:00Z"), {"captured_at_recent"}),
    "updated nowhen": ("updated_at", set_to(updated_at=None), {"updated_at_present"}),
    "updated as a number": ("updated_at", set_to(updated_at=1_700_000_000), {"updated_at_present", "fields_readable"}),
    "updated next year": ("updated_at", set_to(updated_at="2027-11-22T00:00:00Z"), {"updated_at_not_ahead"}),
    "boxes missing": ("boxes", set_to(boxes=None), {"boxes_present"}),
    "boxes a text": ("boxes", set_to(boxes="two"), {"boxes_present", "fields_readable"}),
    "boxes too many": ("boxes", more_boxes, {"boxes_not_too_many"}),
    "box id twice": ("boxes", one_id_twice, {"box_ids_unique"}),
    "box corner a text": ("boxes", first_box(xmin="left"), {"boxes_finite", "boxes_readable"}),
    "box corner missing": ("boxes", first_box(ymax=None), {"boxes_finite"}),
    "box in pixels": ("boxes", first_box(xmin=57.0, xmax=120.0), {"boxes_in_range"}),
    "box inverted": ("boxes", first_box(xmin=0.9, xmax=0.1), {"boxes_ordered"}),
    "box a line": ("boxes", first_box(ymin=0.4, ymax=0.4), {"boxes_have_area"}),
    "width nought": ("width", set_to(width=0), {"width_positive"}),
    "height negative": ("height", set_to(height=-3000), {"height_positive"}),
    "bytes nought": ("bytes", set_to(bytes=0), {"bytes_positive"}),
    "bytes a text": ("bytes", set_to(bytes="2.5 MB"), {"fields_readable"}),
    "hash short": ("sha256", set_to(sha256="abc"), {"sha256_form"}),
    "version missing": ("etag", lambda item: item.update(etag="  "), {"version_present"}),
}
# Changes that look like faults and are none.
HARMLESS: dict[str, Callable[[Item], None]] = {
    "no boxes today": set_to(boxes=[]),
    "a box sticks out": first_box(xmin=-0.03),
    "url with a blank": set_to(url=f"https://photos.example/a b.jpg?sig={CANARY}"),
    "no store": set_to(store_id=None),
    "a new store": set_to(store_id="s999"),
    "no declared sizes": set_to(width=None, height=None, bytes=None, sha256=None),
    "box ids missing": lambda item: [box.update(id=None) for box in item["boxes"]] and None,
    "a new field": set_to(weather="rain"),
}


@dataclass
class Feed:
    """Items in the order of the listing, and the expected outcome of each."""

    items: list[Item] = field(default_factory=list)
    expected: dict[int, set[str]] = field(default_factory=dict)
    superseded: set[int] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)

    def add(self, item: Item, broken: set[str]) -> None:
        if broken:
            self.expected[len(self.items)] = broken
        self.items.append(item)

    def supersede(self, item: Item) -> None:
        """Add an item that a newer one of its image supersedes: no fault."""
        self.superseded.add(len(self.items))
        self.items.append(item)


def make_feed(dice: random.Random) -> Feed:
    feed = Feed()
    solo = list(FAULTS)  # each fault alone first, then combinations
    while len(feed.items) < ROWS:
        item = good_item(len(feed.items), dice)
        roll = dice.random()
        if solo or roll < 0.15:
            faults = [solo.pop()] if solo else combination(dice)
            feed.add(item, spoil(item, faults))
            feed.done.update(faults)
        elif roll < 0.2:
            name = dice.choice(list(HARMLESS))
            HARMLESS[name](item)
            feed.add(item, set())
            feed.done[name] += 1
        elif roll < 0.24:
            add_versions(feed, item, dice)
        else:
            feed.add(item, set())
    return feed


def combination(dice: random.Random) -> list[str]:
    by_part: dict[str, list[str]] = {}
    for name, (part, _, _) in FAULTS.items():
        by_part.setdefault(part, []).append(name)
    return [dice.choice(by_part[part]) for part in dice.sample(sorted(by_part), dice.choice([1, 1, 2, 3, 5]))]


def spoil(item: Item, faults: list[str]) -> set[str]:
    for name in faults:
        FAULTS[name][1](item)
    return set().union(*(FAULTS[name][2] for name in faults))


def add_versions(feed: Feed, item: Item, dice: random.Random) -> None:
    """Announce the image more than once: unchanged, changed, in an older version, or with a bad newer one."""
    older = item | {"etag": "older", "updated_at": (NOW - timedelta(days=300)).isoformat()}
    kind = dice.choice(["again", "otherwise", "older first", "older last", "newer is bad"])
    feed.done[kind] += 1
    if kind == "again":
        feed.supersede(dict(item))
        feed.add(item, set())
    elif kind == "otherwise":
        feed.add(item | {"store_id": f"not {item['store_id']}"}, {"version_unambiguous"})
        feed.add(item, set())
    elif kind == "older first":
        feed.supersede(older)
        feed.add(item, set())
    elif kind == "older last":
        feed.add(item, set())
        feed.supersede(older)
    else:
        feed.add(older, set())
        bad = json.loads(json.dumps(item))
        feed.add(bad, spoil(bad, ["box inverted"]))


@dataclass(frozen=True)
class Outcome:
    feed: Feed
    verdict: Verdict
    spec: StoreSpec
    manifest_key: str
    quarantine_key: str


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    print(f"seed {SEED}")
    folder = tmp_path_factory.mktemp("bad-manifests")
    spec = StoreSpec((folder / "out").as_uri())
    feed = make_feed(random.Random(SEED))
    rows = (landing.manifest_row(at, item, ApiSettings()) for at, item in enumerate(feed.items))
    landing.write_rows(rows, folder / "manifest.parquet")
    key = landing.land(folder / "manifest.parquet", "cameras", "2026-11-22", spec)
    manifest = landing.read(spec, key)
    verdict = validate_manifest(
        manifest,
        RULES,
        run_name=f"poll https://me:{CANARY}@photos.example/?sig={CANARY}",
        now=NOW,
        allowed_hosts=HOSTS,
        known_stores=STORES,
        docs=folder / "docs",
    )
    buffer = io.BytesIO()
    pq.write_table(quarantine_table(manifest, verdict, key), buffer)
    write(spec, quarantine.quarantine_key(key), buffer.getvalue())
    return Outcome(feed, verdict, spec, key, quarantine.quarantine_key(key))


def test_the_feed_holds_every_fault_alone_and_combined(outcome: Outcome) -> None:
    assert min(outcome.feed.done[name] for name in (*FAULTS, *HARMLESS)) > 5
    assert max(len(broken) for broken in outcome.feed.expected.values()) >= 5
    warnings = {r.name for r in (*row_rules(RULES, hosts=HOSTS), *VERSION_RULES) if r.severity == "warning"}
    # Landing writes these two from settings.
    assert warnings - set().union(*outcome.feed.expected.values()) == {"coordinates_known", "orientation_known"}


def test_every_row_lands_where_the_table_says(outcome: Outcome) -> None:
    bad = {row: set(names) for row, names in outcome.verdict.bad_rows.items()}
    differing = {row: (outcome.feed.expected.get(row), bad.get(row)) for row in {*bad, *outcome.feed.expected}}
    assert {row: pair for row, pair in differing.items() if pair[0] != pair[1]} == {}
    assert outcome.verdict.superseded == outcome.feed.superseded


def test_outcomes_add_up_to_the_table(outcome: Outcome) -> None:
    counts = Counter(name for names in outcome.feed.expected.values() for name in names)
    found = {o.name: o.unexpected for o in outcome.verdict.outcomes if o.severity == "warning" and o.unexpected}
    assert found == counts


def test_quarantine_holds_each_bad_row_once_with_its_reasons(outcome: Outcome) -> None:
    assert list_keys(outcome.spec, "quarantine/") == [outcome.quarantine_key]
    table = quarantine.read(outcome.spec, outcome.quarantine_key)
    rows = table.select(["row", "broken", "manifest", "docs"]).to_pylist()
    assert {row["row"]: set(row["broken"]) for row in rows} == outcome.feed.expected
    assert len(rows) == len(outcome.feed.expected)
    assert {(row["manifest"], row["docs"]) for row in rows} == {(outcome.manifest_key, outcome.verdict.docs_url)}


def test_quarantine_keeps_what_was_bad_as_it_came(outcome: Outcome) -> None:
    kept = {row["row"]: row for row in quarantine.read(outcome.spec, outcome.quarantine_key).to_pylist()}
    for row, broken in outcome.feed.expected.items():
        item = outcome.feed.items[row]
        if broken == {"boxes_ordered"}:
            assert kept[row]["boxes"][0]["xmin"] == item["boxes"][0]["xmin"] == 0.9
        if broken == {"sha256_form"}:
            assert kept[row]["sha256"] == "abc"
        if {"fields_readable", "boxes_readable"} & broken:
            raw = json.loads(kept[row]["raw"])
            assert raw["captured_at"] == item["captured_at"]
            assert raw["boxes"] == item["boxes"]


def test_no_secret_reaches_quarantine_or_docs(outcome: Outcome) -> None:
    raw = landing.read(outcome.spec, outcome.manifest_key)
    assert CANARY in raw["url"][0].as_py(), "the manifest itself keeps the address: else nothing is proven here"
    rows = json.dumps(quarantine.read(outcome.spec, outcome.quarantine_key).to_pylist(), default=str)
    # A path is no secret: an operator needs it to find the photo.
    assert CANARY not in rows.replace(f"file:///etc/{CANARY}", "")
    assert CANARY.encode() not in read(outcome.spec, outcome.quarantine_key).replace(f"etc/{CANARY}".encode(), b"")
    pages = [path for path in docs_folder(outcome).rglob("*") if path.is_file()]
    assert len(pages) == 4
    for page in pages:
        assert CANARY not in page.read_text() + page.name


def test_docs_show_the_run_and_load_nothing(outcome: Outcome) -> None:
    page = docs_folder(outcome) / outcome.verdict.docs_url.rpartition("/docs/")[2]
    text = page.read_text()
    for name, count in Counter(n for names in outcome.feed.expected.values() for n in names).items():
        assert re.search(rf"<code>{name}</code>.*?{count:,}\b", text, re.S)
    loads = re.compile(r"<script|<img|<iframe|@import|url\(|(?:src|href)=[\"'](?!#|data:,|\.\./|runs/)")
    assert [loads.findall(html) for html in (text, (docs_folder(outcome) / "index.html").read_text())] == [[], []]
    assert page.stat().st_size < 500_000


def docs_folder(outcome: Outcome) -> Path:
    assert outcome.spec.local_path is not None
    return outcome.spec.local_path.parent / "docs"
