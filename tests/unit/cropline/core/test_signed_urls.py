"""Which URLs count as signed, and when they expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cropline.core.signed_urls import expires_at, has_expired, is_signed

AT = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
SECONDS = int(AT.timestamp())

SIGNED = [
    ("X-Amz-Algorithm=AWS4&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=ab", AT),
    (f"X-Amz-Date={SECONDS - 60}&X-Amz-Expires=60&X-Amz-Signature=ab", AT),
    ("X-Goog-Date=20260101T000000Z&X-Goog-Expires=60&X-Goog-Signature=ab", AT),
    ("sv=2024-01-01&sr=b&se=2026-01-01T00%3A01%3A00Z&sp=r&sig=a%2Bb%3D", AT),
    ("si=readers&sig=ab", None),
    (f"AWSAccessKeyId=A&Expires={SECONDS}&Signature=ab", AT),
    (f"Expires={SECONDS}&Signature=ab&Key-Pair-Id=K", AT),
    ("Policy=eyJ&Signature=ab&Key-Pair-Id=K", None),
    (f"hdnts=exp={SECONDS}~acl=/*~hmac=ab", AT),
    (f"token=ab&exp={SECONDS}", AT),
    ("token=ab", None),
    (f"md5=ab&expires={SECONDS}", AT),
]
PLAIN = ["", "w=800&h=600", "v=2", "signature=ab", "X-Amz-Date=20260101T000000Z", "sig=ab", "expires=never", "exp=0",
         "se=north", "token=", "X-Amz-Expires=60&X-Amz-Date=soon"]  # fmt: skip


@pytest.mark.parametrize(("query", "at"), SIGNED)
def test_signed_urls_are_known_by_their_parameters(query: str, at: datetime | None) -> None:
    url = f"https://photos.example/a/b.jpg?{query}"
    assert is_signed(url)
    assert expires_at(url) == at
    assert has_expired(url, AT) == (at is not None)
    assert not has_expired(url, AT - timedelta(seconds=1))


@pytest.mark.parametrize("query", PLAIN)
def test_nothing_else_is_a_signature(query: str) -> None:
    url = f"https://photos.example/X-Amz-Signature=1/b.jpg?{query}"
    assert not is_signed(url)
    assert expires_at(url) is None


@pytest.mark.parametrize(
    "url", ["", "http://[", "https://h/?" + "&".join("a=1" for _ in range(500)), "https://h/?X-Amz-Date=9&X-Amz-Expires=" + "9" * 99]
)  # fmt: skip
def test_odd_urls_are_no_signed_ones(url: str) -> None:
    assert (is_signed(url), expires_at(url)) == (False, None)
