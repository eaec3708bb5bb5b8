"""Drawn photos: the same for the same seed, rotated as their EXIF says, and worth cropping."""

import io
from pathlib import Path

import pytest
from PIL import ExifTags, Image, ImageOps

from demo.layout import MAX_BOXES, MIN_BOXES
from demo.packs import TURNS, pack
from demo.pictures import Pictures
from demo.products import PRODUCTS
from demo.world import Photo, World


def drawn(folder: Path, world: World, photo: Photo, megapixels: float = 0.1) -> tuple[Image.Image, bytes]:
    content = Pictures(world, megapixels, folder, workers=1).get(photo).path.read_bytes()
    return Image.open(io.BytesIO(content)), content


def one_of_each_model(world: World) -> list[Photo]:
    return list({photo.camera.model: photo for photo in world.photos()}.values())


def test_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    contents = [drawn(tmp_path / str(n), (world := World(7, 6, 3)), world.photos()[0])[1] for n in range(2)]
    assert contents[0] == contents[1]


def test_another_seed_draws_another_picture(tmp_path: Path) -> None:
    contents = [drawn(tmp_path, (world := World(seed, 6, 3)), world.photos()[0])[1] for seed in (7, 8)]
    assert contents[0] != contents[1]


def test_drawing_in_several_processes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(7, 6, 4)
    alone = Pictures(world, 0.1, tmp_path / "alone", workers=1).get_all(world.photos())
    monkeypatch.setattr("demo.pictures._WORTH_A_POOL", 0.0)
    together = Pictures(world, 0.1, tmp_path / "together", workers=2).get_all(world.photos())
    assert [picture.sha256 for picture in alone] == [picture.sha256 for picture in together]


def test_photos_on_disk_are_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(7, 6, 2)
    first = Pictures(world, 0.1, tmp_path, workers=1).get_all(world.photos())
    monkeypatch.setattr("demo.pictures.paint", None)
    assert Pictures(world, 0.1, tmp_path, workers=1).get_all(world.photos()) == first


def test_size_of_the_photo_does_not_move_its_boxes(tmp_path: Path) -> None:
    world = World(7, 6, 1)
    photo = world.photos()[0]
    small, large = (Pictures(world, mp, tmp_path, workers=1).get(photo) for mp in (0.05, 0.4))
    assert (small.width, small.height) < (large.width, large.height)
    assert world.boxes(photo) == World(7, 6, 1).boxes(photo)


def test_boxes_lie_within_the_picture_and_are_of_a_detectors_number() -> None:
    world = World(11, 12, 200)
    for photo in world.photos():
        boxes = world.boxes(photo)
        assert MIN_BOXES <= len(boxes) <= MAX_BOXES
        assert len({box.box_id for box in boxes}) == len(boxes)
        for box in boxes:
            assert 0 <= box.xmin < box.xmax <= 1
            assert 0 <= box.ymin < box.ymax <= 1
            assert 0.7 <= box.score < 1


def test_boxes_hold_their_product_when_the_picture_is_turned_upright(tmp_path: Path) -> None:
    """A red bottle's label is red where its box says; rotated the wrong way, it would not be."""
    world = World(7, 6, 40)
    checked = set()
    for photo in one_of_each_model(world):
        picture = ImageOps.exif_transpose(drawn(tmp_path, world, photo, 0.3)[0])
        for box in world.boxes(photo):
            if box.label in ("fjella-still-700", "krokko-400", "karamoo-full-1l", "crunchetta-salt"):
                product = next(product for product in PRODUCTS if product.code == box.label)
                edges = (box.xmin * picture.width, box.ymin * picture.height)
                size = (round((box.xmax - box.xmin) * picture.width), round((box.ymax - box.ymin) * picture.height))
                crop = picture.crop((*map(round, edges), round(edges[0]) + size[0], round(edges[1]) + size[1]))
                assert _likeness(crop, pack(product, 240).convert("RGB")) > 0.5, box
                checked.add(photo.camera.model.orientation)
    assert len(checked) >= 2


def _likeness(one: Image.Image, other: Image.Image) -> float:
    """Return the correlation of two pictures' centres, -1..1, independent of their brightness."""
    side = (8, 16)
    a, b = (list(picture.convert("L").resize(side).crop((2, 1, 6, 15)).tobytes()) for picture in (one, other))
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    cross = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    spread = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return float(cross / spread**0.5) if spread else 0.0


def test_exif_names_the_camera_and_how_the_photo_is_turned(tmp_path: Path) -> None:
    world = World(7, 6, 40)
    orientations = set()
    for photo in one_of_each_model(world):
        exif = drawn(tmp_path, world, photo)[0].getexif()
        assert exif[ExifTags.Base.Model] == photo.camera.model.name
        orientations.add(exif[ExifTags.Base.Orientation])
    assert orientations == {1, 3, 6, 8}


def test_full_size_photos_have_a_cameras_file_size(tmp_path: Path) -> None:
    world = World(7, 6, 40)
    sizes = {photo.camera.model.megapixels: photo for photo in world.photos()}
    for photo in (sizes[min(sizes)], sizes[max(sizes)]):
        picture, content = drawn(tmp_path, world, photo, 9.0)
        assert 8e6 <= picture.width * picture.height <= 12e6
        assert 2e6 <= len(content) <= 3e6


@pytest.mark.parametrize("height", [24, 97])
def test_every_product_can_be_drawn_at_any_size(height: int) -> None:
    for product in PRODUCTS:
        for turn in range(len(TURNS)):
            drawn_pack = pack(product, height, turn)
            assert drawn_pack.mode == "RGBA"
            assert drawn_pack.height == height
            assert drawn_pack.getextrema()[3][1] == 255


def test_a_limit_of_boxes_keeps_the_first_ones_and_the_picture(tmp_path: Path) -> None:
    whole, few = World(7, 6, 2), World(7, 6, 2, boxes=3)
    for photo, same in zip(whole.photos(), few.photos(), strict=True):
        assert few.boxes(same) == whole.boxes(photo)[:3]
        assert drawn(tmp_path, few, same)[1] == drawn(tmp_path, whole, photo)[1]
