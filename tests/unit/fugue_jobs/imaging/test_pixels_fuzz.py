"""Any bytes and any boxes: an outcome with a known reason, within bounds, never another exception."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropline.config.profile import Profile
from cropline.core.failures import FAILURES
from fugue_jobs.work import Box
from tests.unit.fugue_jobs.imaging import hostile
from tests.unit.fugue_jobs.imaging.cutting import WHOLE, cuts, photo_failure, work_for

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

SEEDS = [
    hostile.JPEG,
    hostile.PNG,
    hostile.WEBP,
    hostile.GIF,
    hostile.BMP,
    hostile.TIFF,
    hostile.AVIF,
    hostile.progressive_bomb(3),
    hostile.multi_picture(),
    hostile.animated("PNG"),
    hostile.animated("WEBP"),
]
BUDGET = settings(max_examples=125, derandomize=True, deadline=None)
# The smallest is decoded at a reduced scale, where the boxes are large enough.
PROFILES = (Profile(max_side=40), Profile(max_side=8), Profile(format="png", padding=0.3, min_side=3))

edges = st.one_of(st.none(), st.floats(), st.floats(-0.5, 1.5))
boxes = st.one_of(st.just(WHOLE), st.builds(Box, st.one_of(st.none(), st.text(max_size=5)), edges, edges, edges, edges))
patches = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 400), st.integers(0, 100_000)),
        st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff"])),
        st.integers(0, 20),
    ),
    max_size=12,
)


def patched(data: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """Replace ``length`` bytes at each position with the new ones."""
    for at, new, length in changes:
        place = at % (len(data) + 1)
        data = data[:place] + new + data[place + length :]
    return data


def assert_classified(data: bytes, some_boxes: list[Box], coordinates: str, orientation: str) -> None:
    work = work_for(*some_boxes, profiles=PROFILES, coordinates=coordinates, orientation=orientation)
    failure = photo_failure(data, work, formats=hostile.ALL_FORMATS)
    if failure is not None:
        assert failure.code in FAILURES
        return
    found = cuts(data, work, formats=hostile.ALL_FORMATS)
    assert len(found) == work.crops
    for cut in found:
        assert cut.outcome.status in ("written", "failed", "skipped")
        assert (cut.outcome.status == "written") == (cut.outcome.reason is None) == (cut.data is not None)
        assert cut.outcome.reason is None or cut.outcome.reason in FAILURES


@BUDGET
@given(
    seed=st.sampled_from(SEEDS),
    changes=patches,
    some_boxes=st.lists(boxes, min_size=1, max_size=3),
    coordinates=st.sampled_from(["normalised", "pixels"]),
    orientation=st.sampled_from(["upright", "stored"]),
)
def test_any_changed_photo_and_any_boxes_end_classified(
    seed: bytes, changes: list[tuple[int, bytes, int]], some_boxes: list[Box], coordinates: str, orientation: str
) -> None:
    assert_classified(patched(seed, changes), some_boxes, coordinates, orientation)


@BUDGET
@given(magic=st.sampled_from([seed[:16] for seed in SEEDS] + [b""]), noise=st.binary(max_size=600))
def test_any_bytes_behind_any_magic_end_classified(magic: bytes, noise: bytes) -> None:
    assert_classified(magic + noise, [Box("a", 0.0, 0.0, 1.0, 1.0)], "normalised", "upright")


def test_noise_of_every_length_ends_classified() -> None:
    dice = random.Random(7)
    for length in range(200):
        for seed in SEEDS:
            assert_classified(
                seed[:length] + dice.randbytes(20), [Box("a", 0.0, 0.0, 1.0, 1.0)], "normalised", "stored"
            )
