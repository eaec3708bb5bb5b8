"""Secrets are removed from texts; what a person needs to find the fault stays."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cropline.core.scrub import one_line, scrub

CANARY = "CANARY-7f3a"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET https://h.test/a/b.jpg?X-Amz-Signature=abc&x=1 failed", "GET https://h.test/a/b.jpg?*** failed"),
        ("Max retries exceeded with url: /i/1.jpg?sig=abc&e=1 (Caused by X('no'))", "Max retries exceeded with url: /i/1.jpg?*** (Caused by X('no'))"),
        ("postgresql+psycopg://user:pa@ss@db:5432/crops?sslmode=x", "postgresql+psycopg://***@db:5432/crops?***"),
        ("https://tok@h.test/p", "https://***@h.test/p"),
        ("https://u:pa/ss@h.test/p", "https://***@h.test/p"),
        ("http://h.test/a#access_token=x", "http://h.test/a?***"),
        ("http://h:80/img@2x.jpg", "http://h:80/img@2x.jpg"),
        ("sent Bearer abc.def-ghi", "sent Bearer ***"),
        ("{'token': 'a b', \"Password\": \"c\"}", "{'token': ***, \"Password\": ***}"),
        ("aws_secret_access_key=abc/def+ghi=", "aws_secret_access_key=***"),
        ("key AKIAIOSFODNN7EXAMPLE is wrong", "key *** is wrong"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-d", "jwt ***"),
        ("http://a/b?c=d, then http://e:f@g/h?i", "http://a/b?*** then http://***@g/h?***"),
    ],
)  # fmt: skip
def test_secrets_go_and_the_rest_stays(text: str, clean: str) -> None:
    assert scrub(text) == clean


@pytest.mark.parametrize(
    "text", ["what? a = b", "is it 3 > 2?", "", "a@b.test", "s3://bucket/a/b.parquet", "12:30:01", "a: b"]
)
def test_prose_and_plain_addresses_stay(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.parametrize(
    "template",
    ["https://h/p?a={}", "https://{}@h/p", "https://u:{}@h/p", "Authorization: Bearer {}", "Authorization: {}", "?sig={}", "token={}", "'password': '{}'", "Cookie: {}", "x-api-key: {}"],
)  # fmt: skip
@given(before=st.text(max_size=30), after=st.text(max_size=30))
def test_no_surroundings_bring_a_secret_back(template: str, before: str, after: str) -> None:
    """In any context, as long as a space separates it."""
    assert CANARY not in scrub(f"{before} {template.format(CANARY)} {after}")


@given(st.text(alphabet="ab:/@?#=&'\" \n.token-secretBearer", max_size=200))
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    assert scrub(scrub(text)) == scrub(text)


@pytest.mark.parametrize(
    "part", ["://", "?", "://a:", "b:", "token", "token=", "bearer ", "/", "://a:a:", "a://b:c", "eyJ", '="', "@"]
)
def test_hostile_text_takes_linear_time(part: str) -> None:
    """Each takes about a tenth of a second; a pattern that backtracks over the whole text takes minutes."""
    started = time.process_time()
    scrub(part * 100_000)
    assert time.process_time() - started < 2


def test_one_line_is_one_short_line() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("a \x1b[31m↳\x1b[0m b\x00") == "a ↳ b"
    assert len(one_line("x" * 10_000)) == 300
    assert one_line("x" * 10_000).endswith("…")
    assert CANARY not in one_line("x" * 290 + f" https://u:{CANARY}@h")
