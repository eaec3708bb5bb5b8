"""A function's calls inside a crop process: what it gets is its own, and the pool sees which crop is in hand."""

import copy
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image, ImageDraw

from fugue_jobs.imaging.encode import Step
from fugue_jobs.pool.applying import sent_row
from fugue_jobs.pool.board import Applying, Board, InHand, Limits
from fugue_jobs.pool.functions import Facts, Functions, Given
from fugue_jobs.pool.lent import Lent

STEP = Step("function:f", "1", 0, 30, 4_096, (("n", "int64"),))
RED, BLUE = (255, 0, 0), (0, 0, 255)
Call = Callable[..., Given]

kept: list[Any] = []


@pytest.fixture
def board() -> Iterator[Board]:
    with tempfile.TemporaryFile() as shared:
        yield Board(shared.fileno())


@pytest.fixture
def sent() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def call(board: Board, sent: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call a function with one red crop."""

    def called(function: Callable[..., Any], image: Image.Image | None = None, row: Any = None) -> Given:
        functions = Functions({}, board, sent.append)
        monkeypatch.setattr(functions, "_find", lambda use: function)
        image = image or Image.new("RGB", (4, 3), RED)
        (given,) = functions.call(STEP, [InHand(7, 0, 3)], [image], [Facts({"box_index": 3}, row or {})])
        return given

    return called


@pytest.mark.parametrize(
    "draws",
    [
        lambda image: image.putpixel((0, 0), BLUE),
        lambda image: image.load().__setitem__((0, 0), BLUE),
        lambda image: image.paste(BLUE, (0, 0, 2, 2)),
        lambda image: image.im.paste(BLUE, (0, 0, 2, 2)),
        lambda image: ImageDraw.Draw(image).point((0, 0), BLUE),
        lambda image: image.thumbnail((2, 2)),
        lambda image: image.putalpha(3),
        lambda image: image.close(),
        lambda image: kept.append(image) or image.close(),
    ],
)
def test_drawing_on_the_image_changes_no_crop(call: Call, draws: Callable[[Image.Image], Any]) -> None:
    crop = Image.new("RGB", (4, 3), RED)
    before = crop.tobytes()

    def draw(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
        draws(image)
        return {}

    assert call(draw, crop).failure is None
    assert (crop.mode, crop.size, crop.tobytes()) == ("RGB", (4, 3), before)


def test_an_image_is_like_a_copy_of_the_crop(call: Call) -> None:
    crop = Image.new("RGB", (4, 3), RED)

    def compares(image: Image.Image, row: dict[str, Any]) -> Image.Image:
        assert image == crop
        assert crop == image.copy()
        assert image != Image.new("RGB", (4, 3), BLUE)
        assert (image.size, image.width, image.height, image.mode) == ((4, 3), 4, 3, "RGB")
        for other in (copy.deepcopy(image), pickle.loads(pickle.dumps(image))):
            assert other.tobytes() == crop.tobytes()
            other.putpixel((0, 0), BLUE)
        assert image.getpixel((0, 0)) == RED
        return image

    given = call(compares, crop)
    assert given.failure is None
    assert given.image is not None
    assert given.image.tobytes() == crop.tobytes()


@pytest.mark.parametrize("keeps", [kept.append, lambda image: kept.append(image.tobytes)])
def test_an_image_that_a_function_keeps_keeps_its_pixels(call: Call, keeps: Callable[[Image.Image], None]) -> None:
    crop = Image.new("RGB", (4, 3), RED)
    before = crop.tobytes()

    def keep(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
        keeps(image)
        return {}

    kept.clear()
    call(keep, crop)
    crop.paste(BLUE, (0, 0, 4, 3))  # the next photo in the same memory
    assert (kept[0].tobytes() if isinstance(kept[0], Image.Image) else kept[0]()) == before


def test_pixels_that_nobody_asks_for_are_not_copied(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Image.Image] = []
    monkeypatch.setattr(Lent, "settle", copied.append)
    monkeypatch.setattr(Lent, "load", copied.append)
    assert call(lambda image, row: {"n": image.width}).values == {"n": 4}
    assert not copied


def test_the_pool_sees_the_crop_and_the_limits_during_a_call(call: Call, board: Board) -> None:
    seen: list[Applying | None] = []
    assert board.applying() is None
    call(lambda image, row: seen.append(board.applying()) or {})
    assert board.applying() is None
    assert seen[0] is not None
    assert seen[0][:2] == ((InHand(7, 0, 3),), Limits(30, 4_096, "function:f"))
    assert seen[0].began <= board.ended_at


def test_the_board_holds_the_limits_of_the_function_in_hand(board: Board) -> None:
    short, long = Limits(1, 64, "m:f"), Limits(2.5, 4_096, "a_longer_module.name:function")
    for hands, limits in (
        ([InHand(1, 0, 2)], short),
        ([InHand(n, 1, n) for n in range(10_000)], long),
        ([InHand(1, 0, 3)], long),
        ([InHand(1, 0, 4)], short),
    ):
        board.begin(hands, limits)
        applying = board.applying()
        assert applying is not None
        assert applying[:2] == (tuple(hands), limits)
        board.end()


def test_what_one_call_prints_is_not_told_of_the_next(call: Call, sent: list[tuple[Any, ...]]) -> None:
    def prints(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
        print("one")
        print("two", file=sys.stderr)
        sys.stdout.close()
        return {}

    streams = sys.stdout, sys.stderr
    call(prints)
    call(prints)
    assert (sys.stdout, sys.stderr) == streams
    assert [message[1] for message in sent if message[0] == "said"] == ["function:f: one\ntwo"] * 2


def test_a_row_travels_as_it_is_only_if_nobody_can_change_its_values(call: Call) -> None:
    plain, shared = {"sku": "cola", "price": 1.5, "n": None}, {"tags": ["a"]}
    assert sent_row(plain) is plain
    assert isinstance(sent_row(shared), bytes)

    def changes(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
        row.setdefault("tags", []).append("mine")
        row["sku"] = "mine"
        return {"n": len(row["tags"])}

    assert [call(changes, row=sent_row(row)).values for row in (plain, shared, plain, shared)] == [
        {"n": 1},
        {"n": 2},
        {"n": 1},
        {"n": 2},
    ]
    assert plain == {"sku": "cola", "price": 1.5, "n": None}
