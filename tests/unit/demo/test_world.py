"""Captures: the same for the same seed, in bursts, and changed only where a test asks for it."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest

from demo.world import Photo, World


def test_same_seed_makes_the_same_world() -> None:
    one, other = World(7, 6, 30), World(7, 6, 30)
    assert one.photos() == other.photos()
    assert [one.boxes(photo) for photo in one.photos()] == [other.boxes(photo) for photo in other.photos()]
    assert one.photos() != World(8, 6, 30).photos()


def test_photos_arrive_in_bursts_of_one_camera() -> None:
    photos = sorted(World(7, 6, 60).photos(), key=lambda photo: photo.captured_at)
    close = [pair for pair in pairwise(photos) if pair[1].captured_at - pair[0].captured_at < timedelta(seconds=5)]
    assert len(close) > 30
    assert all(one.camera == other.camera for one, other in close)


def test_a_short_demo_shows_several_stores_and_cameras() -> None:
    cameras = Counter(photo.camera for photo in World(7, 6, 40).photos())
    assert len(cameras) >= 8
    assert len({camera.store_id for camera in cameras}) >= 4


def test_advance_adds_photos_newer_than_all_before() -> None:
    world = World(7, 6, 10)
    before = world.photos()
    punctual, late = world.advance(15)
    assert (len(punctual), late) == (15, [])
    assert world.photos()[:10] == before
    assert len({photo.image_id for photo in world.photos()}) == 25


def test_advance_in_steps_loses_and_repeats_nothing() -> None:
    world = World(7, 6, 0)
    steps = [world.advance(3)[0] for _ in range(10)]
    newest = [max(photo.updated_at for photo in step) for step in steps]
    oldest = [min(photo.updated_at for photo in step) for step in steps]
    assert all(before < after for before, after in zip(newest, oldest[1:], strict=False))
    assert len(world.photos()) == 30


def test_late_photos_are_older_than_the_newest_that_was_known() -> None:
    world = World(7, 6, 10)
    newest = world.photos()[-1].updated_at
    punctual, late = world.advance(6, late=2)
    assert len(late) == 2
    assert all(newest - timedelta(minutes=4) <= photo.updated_at < newest for photo in late)
    assert all(photo.captured_at < photo.updated_at for photo in late)
    assert all(photo.updated_at > newest for photo in punctual)


def test_changing_a_box_changes_that_box_alone() -> None:
    world = World(7, 6, 5)
    photo = world.photos()[2]
    before = world.boxes(photo)
    changed = world.change_box(photo.image_id, "b03")
    after = world.boxes(changed)
    assert [box.box_id for box, was in zip(after, before, strict=True) if box != was] == ["b03"]
    assert changed.updated_at > max(other.updated_at for other in world.photos() if other != changed)
    assert changed.revision == photo.revision


def test_a_box_can_be_changed_again_and_again() -> None:
    world = World(7, 6, 1)
    image_id = world.photos()[0].image_id
    boxes = [world.boxes(world.change_box(image_id, "b01"))[0] for _ in range(60)]
    assert len(set(boxes)) == 60
    assert all(box.xmin < box.xmax for box in boxes)


def test_changing_a_picture_keeps_its_boxes() -> None:
    world = World(7, 6, 5)
    photo = world.photos()[0]
    changed = world.change_picture(photo.image_id)
    assert changed.revision == photo.revision + 1
    assert world.boxes(changed) == world.boxes(photo)


@pytest.mark.parametrize("ids", [("no-such-image", "b01"), ("", "b99")])
def test_what_does_not_exist_cannot_be_changed(ids: tuple[str, str]) -> None:
    world = World(7, 6, 1)
    image_id = ids[0] or world.photos()[0].image_id
    with pytest.raises(KeyError):
        world.change_box(image_id, ids[1])


def test_photos_are_sorted_as_the_listing_promises() -> None:
    def place(photo: Photo) -> tuple[object, str]:
        return photo.updated_at, photo.image_id

    photos = World(7, 6, 80).photos()
    assert photos == sorted(photos, key=place)
