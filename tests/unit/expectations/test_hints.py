"""Hints for a broken rule: values that break it and the setting to look at, without secrets."""

from __future__ import annotations

from typing import Any

import pytest

from cropline.config.settings import ApiSettings, FieldMap
from expectations.hints import hints, setting_of
from expectations.manifest import quarantine_rules
from tests.unit.expectations.rows import box, item, landed

HUSH = "hush-hush"
NO_PATH = ApiSettings(fields=FieldMap(captured_at="taken.at"))


@pytest.mark.parametrize(
    ("rule", "one", "api", "said"),
    [
        (
            "captured_at_present",
            item(0),
            NO_PATH,
            'has captured_at "2026-11-22T08:00:00Z"; look at CROPLINE_API__FIELDS__CAPTURED_AT',
        ),
        (
            "url_host_allowed",
            item(0, url=f"https://h.example/p.jpg?sig={HUSH}"),
            None,
            "is https://h.example/p.jpg?***",
        ),
        ("boxes_in_range", item(0, boxes=[box(xmax=57.5)]), None, "xmax 57.5, ymax"),
        ("fields_readable", item(0, width="wide"), None, 'width is "wide"; look at CROPLINE_API__FIELDS__WIDTH'),
        ("boxes_present", item(0, boxes=None), None, "boxes is null; look at CROPLINE_API__FIELDS__BOXES"),
    ],
)
def test_a_broken_rule_is_reported_with_its_value_and_setting(
    rule: str, one: dict[str, Any], api: ApiSettings | None, said: str
) -> None:
    (told,) = hints(landed([one], api), {0: [rule]}).values()
    assert said in told
    assert HUSH not in told


def test_a_missing_field_is_reported_with_the_fields_that_exist() -> None:
    one = {name: value for name, value in item(0).items() if name != "captured_at"}
    (told,) = hints(landed([one]), {0: ["captured_at_present"]}).values()
    assert "captured_at is missing in an item of " in told
    assert "updated_at" in told


def test_every_rule_of_quarantine_names_a_setting() -> None:
    assert all(setting_of(rule).startswith("CROPLINE_") for rule in quarantine_rules())
