"""The completeness check finds what is wrong with pages, without HTTP and settings."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cropline.intake.sources.completeness import Completeness, Sight, Trouble

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def taken(*pages: str, totals: list[int] | None = None) -> Completeness:
    checker = Completeness()
    for number, page in enumerate(pages):
        assert checker.take(Sight(page, total=totals[number] if totals else None)) is None
    return checker


def test_pages_that_follow_each_other_are_whole() -> None:
    checker = taken("abc", "de")
    assert checker.end() is None
    assert (checker.items, checker.distinct, checker.longest) == (5, 5, 3)


def test_the_same_page_again_is_no_progress() -> None:
    assert taken("abc").take(Sight("abc")) is Trouble.SAME_PAGE


def test_a_page_of_earlier_items_only_is_no_progress_and_is_not_taken() -> None:
    checker = taken("abc", "def")
    assert checker.take(Sight("cb")) is Trouble.REPEATED
    assert checker.page == ("d", "e", "f")


def test_empty_pages_are_never_in_trouble() -> None:
    assert taken("", "", "ab", "", "").end() is None


@pytest.mark.parametrize(
    ("again", "trouble"),
    [
        ("abcd", None),
        ("nabc", None),  # a row was inserted above: the others moved down and repeat
        ("mnab", None),
        ("bcde", Trouble.SHIFTED),  # a row was removed: e moved into this page
        ("acde", Trouble.SHIFTED),
        ("abc", Trouble.SHIFTED),
        ("", Trouble.SHIFTED),
        ("wxyz", Trouble.SHIFTED),  # too much changed to know
    ],
)
def test_a_page_read_again_shows_whether_rows_slipped_into_it(again: str, trouble: Trouble | None) -> None:
    assert taken("abcd").compare(again) is trouble


@given(st.integers(2, 8), st.integers(3, 30), st.integers(0, 29), st.booleans())
def test_a_row_that_goes_between_two_pages_never_passes_unseen(size: int, rows: int, gone: int, moved: bool) -> None:
    """A table of rows is read by offset; after the first page one row is removed or moves to the end."""
    table = list(range(rows))
    checker = Completeness()
    checker.take(Sight([str(row) for row in table[:size]]))
    lost = table.pop(min(gone, rows - 1))
    if moved:
        table.append(lost)
    following = table[size : 2 * size]
    missed = set(range(size, min(2 * size, rows))) - set(following) - {lost}
    if missed and following:
        again = [str(row) for row in table[:size]]
        assert checker.compare(again) is Trouble.SHIFTED


@pytest.mark.parametrize(
    ("pages", "totals", "trouble"),
    [
        (["abc", "de"], [5, 5], None),
        (["abc", "de"], [6, 6], Trouble.FEWER),
        (["abc", "de"], [3, 3], Trouble.MORE),
        (["abc", "de"], [4, 5], None),  # a row was inserted during the reading
        (["abc", "de"], [5, 6], None),
        (["abc", "cd"], [5, 5], Trouble.FEWER),
    ],
)
def test_the_total_is_compared_with_what_came(pages: list[str], totals: list[int], trouble: Trouble | None) -> None:
    assert taken(*pages, totals=totals).end() is trouble


def test_rows_that_the_api_itself_repeats_are_not_missed_the_second_time() -> None:
    checker = taken("aab", totals=[3])
    assert checker.end() is Trouble.FEWER
    assert checker.end(twice=True) is None


def test_all_up_to_the_second_newest_moment_was_read_when_the_order_is_by_time() -> None:
    checker = Completeness()
    checker.take(Sight("abcd", [NOON, NOON, NOON + timedelta(minutes=1), None]))
    assert (checker.ascending, checker.safe, checker.newest) == (True, NOON, NOON + timedelta(minutes=1))
    checker.take(Sight("e", [NOON]))
    assert not checker.ascending


def test_one_moment_alone_proves_no_order() -> None:
    checker = Completeness()
    checker.take(Sight("abc", [NOON] * 3))
    assert checker.safe is None
