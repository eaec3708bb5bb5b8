"""The contents of a request, by the settings: query, body, and the values filled into them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cropline.config.settings import ApiSettings
from cropline.intake.sources.rest_request import Position, build, is_since_sent, since_text

MOMENT = datetime(2026, 4, 10, 22, 30, 15, 250_000, tzinfo=UTC)


def api(**changes: Any) -> ApiSettings:
    return ApiSettings(**({"url": "http://a.example/base"} | changes))


@pytest.mark.parametrize(
    ("form", "zone", "text"),
    [
        ("iso", "UTC", "2026-04-10T22:30:15.250000+00:00"),
        ("iso_z", "Europe/Berlin", "2026-04-10T22:30:15Z"),
        ("date", "UTC", "2026-04-10"),
        ("date", "Europe/Berlin", "2026-04-11"),
        ("epoch_s", "UTC", 1_775_860_215),
        ("epoch_ms", "UTC", 1_775_860_215_250),
        ("%d.%m.%Y %H:%M", "Europe/Berlin", "11.04.2026 00:30"),
    ],
)
def test_a_moment_is_sent_as_the_api_takes_it_and_rounded_down(form: str, zone: str, text: Any) -> None:
    assert since_text(MOMENT, api(since_format=form, time_zone=zone)) == text


def test_an_empty_parameter_is_not_sent() -> None:
    ask = build(api(since_param="", limit_param=""), "s", Position(), 10)
    assert (ask.url, ask.params, ask.json) == ("http://a.example/base/v1/images", {}, None)
    assert not is_since_sent(api(since_param=""))


def test_a_value_that_params_name_is_not_sent_twice() -> None:
    settings = api(params={"filter": "changed>{since}", "n": "{limit}", "tags": ["a", 1]})
    ask = build(settings, "s1", Position(value="c2"), 10)
    assert ask.params == {"filter": "changed>s1", "n": 10, "tags": ["a", 1], "cursor": "c2"}
    assert is_since_sent(api(since_param="", params={"q": "{since}"}))


def test_a_post_without_a_body_of_its_own_sends_the_parameters_as_json() -> None:
    ask = build(api(method="POST", paginator="offset"), "s1", Position(value=20), 10)
    assert (ask.params, ask.json) == ({}, {"updated_after": "s1", "limit": 10, "offset": 20})


@pytest.mark.parametrize(
    ("body", "position", "sent"),
    [
        ({"q": "{images{id url}}"}, Position(), {"q": "{images{id url}}"}),
        ({"q": "x {since} {limit}", "n": "{limit}"}, Position(), {"q": "x s1 10", "n": 10}),
        ({"v": {"after": "{cursor}", "list": ["{cursor}"]}}, Position(), {"v": {"list": [None]}}),
        ({"v": {"after": "{cursor}"}}, Position(value="c1"), {"v": {"after": "c1"}}),
        ({"search_after": "{cursor}"}, Position(value=[1, "a"]), {"search_after": [1, "a"]}),
        ({"size": "{limit}"}, Position(value="c1"), {"size": 10, "cursor": "c1"}),
    ],
)
def test_a_body_is_filled_in(body: Any, position: Position, sent: Any) -> None:
    assert build(api(method="POST", body=body), "s1", position, 10).json == sent


def test_page_and_offset_are_numbers_in_a_body() -> None:
    settings = api(method="POST", paginator="offset", body={"from": "{offset}", "page": "{page}"})
    assert build(settings, "s", Position(value=20), 10).json == {"from": 20, "page": 2}
