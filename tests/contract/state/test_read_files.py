"""Files that were read and photos that were deleted, on each database."""

from __future__ import annotations

from cropline.state import State


def test_a_file_is_unread_until_its_version_is_remembered(state: State) -> None:
    files = {f"a/{n:04} ä.csv": "1" for n in range(1_200)}
    assert state.unread_files("cams", files) == set(files)
    state.remember_files("cams", files)
    assert state.unread_files("cams", files) == set()
    assert state.unread_files("other", files) == set(files)
    changed = "a/0007 ä.csv"
    assert state.unread_files("cams", files | {changed: "2", "b.csv": "1"}) == {changed, "b.csv"}
    state.remember_files("cams", {changed: "2"})
    assert state.unread_files("cams", {changed: "2"}) == set()


def test_files_up_to_the_place_where_listing_begins_are_dropped(state: State) -> None:
    state.remember_files("cams", {"B": "1", "a": "1", "ä": "1"})
    assert state.list_after("cams") is None
    state.remember_files("cams", {}, "a")
    assert state.list_after("cams") == "a"
    # Keys sort by their bytes, as a bucket lists them.
    assert state.unread_files("cams", {"B": "1", "a": "1", "ä": "1"}) == {"B", "a"}
    assert state.cursor("cams") is None


def test_a_deleted_photo_is_marked_once_until_it_is_announced_again(state: State) -> None:
    assert state.mark_deleted("cams", ["p", "q", "p"]) == 2
    assert state.mark_deleted("cams", ["p", "r"]) == 1
    assert state.deleted_at("cams", "p") is not None
    assert state.deleted_at("other", "p") is None
    state.unmark_deleted("cams", ["p", "x"])
    assert state.deleted_at("cams", "p") is None
    assert state.deleted_at("cams", "q") is not None
    assert state.known_images("cams", ["p", "q"]) == set()
