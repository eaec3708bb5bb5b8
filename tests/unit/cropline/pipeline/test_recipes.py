"""An upgrade changes no fingerprint: those of current recipes, contents and crops are fixed here."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cropline.config.profile import Profile
from cropline.core import keys
from fugue_jobs.imaging.encode import Recipe, read_recipe

BOX = {"box_id": "b1", "xmin": 0.1, "ymin": 0.2, "xmax": 0.3, "ymax": 0.4, "label": "cola", "score": 0.9}
DEFAULT = "166b220fb7cddd6e5e7c3fb655fd3da72bccba3ccba8f1a4ed6e0ed2d57fe01f"
PINNED = [
    ({}, DEFAULT),
    ({"quality": 91}, "c29e3c2e0f5646f57f4fc8f723721d41c7ff757b795a86429a3589439cd5be87"),
    ({"max_side": 256}, "21c49581876c851b8e739f2d47bbcac3d652d7a06fe7d3badd2b0cabe33d1338"),
    ({"format": "png"}, "254ebeb20d8b80358d57812b1647ac6ce6308dc0af850f3657c8f22f4f405cb5"),
    ({"format": "webp", "lossless": True}, "8ad9712c25ef6a8faa62ce0ccff660961ffb9cdd2be84bd8ac4194f8beca6c4d"),
    ({"padding": 0.1, "min_side": 16}, "17cffd45b49660f07db4d0b38a77a6b1032391f769c30cbb8398a853b01323db"),
    ({"matte": "#000000", "colour": "keep_icc"}, "db6f1666fc2719d6b730e9150be1567e66937757b4055b33b72f69fb24e90621"),
    ({"subsampling": "4:4:4"}, "28f731241c4528ff93d86dd3e35f306b02b0f35a176205cce071f2df636f5d9f"),
    ({"format": "avif", "quality": 60}, "4b544eed6ffa03137dd3cab4ca252b8ddc9df2afc6c4f33cb74cb0a8a39afb38"),
    ({"effort": None}, DEFAULT),
    ({"output": "shards", "retention_days": 30, "shard_mb": 64}, DEFAULT),
]


class Later(Profile):
    """A profile of a later cropline, with new fields whose defaults are the current behaviour."""

    sharpen: float = 0.0
    filters: tuple[str, ...] = ()
    background: str | None = None


@pytest.mark.parametrize("profile", [Profile, Later])
@pytest.mark.parametrize(("fields", "hash_"), PINNED, ids=lambda value: str(value)[:40])
def test_a_current_profile_keeps_its_hash_when_fields_are_added(
    profile: type[Profile], fields: dict[str, Any], hash_: str
) -> None:
    assert profile(**fields).hash == hash_


def test_a_used_new_field_changes_the_recipe() -> None:
    hashes = {Later(sharpen=0.5).hash, Later(filters=("blur",)).hash, Later(background="white").hash, Later().hash}
    assert len(hashes) == 4
    assert DEFAULT in hashes


def test_an_effort_changes_the_recipe() -> None:
    assert len({Profile(format="png", effort=effort).hash for effort in (None, 0, 1, 9)}) == 4


def test_current_contents_fingerprints_and_keys_do_not_change() -> None:
    content = keys.content_hash("v1", "normalised", "upright", [BOX])
    work = keys.fingerprint(content, DEFAULT)
    assert content == "f6561cac992b034b5a46e47b4ab7d610acd0cdfc928399fe0a5dbd472ed97595"
    assert work == "ac46e79959a01d310234d985f0a883ceb1c0b357fefd738988e3474b32498f7e"
    assert (
        keys.box_fingerprint("v1", "normalised", "upright", BOX, DEFAULT)
        == "26914c04389e6d643be9a9d9c01bf7e9f9f6d198548c8c9b77e6c279504f905a"
    )
    assert keys.crop_key("cams", "Photo 1/ä", "default", work, 0, "b1", "jpg") == (
        "crops/default-3214a48d5aff0165/cams-50ec8d48c3714c5a/photo-1-97e2b68246f25c04/ac46e79959a01d310234/"
        "0000-b1-15da34a5acf08934.jpg"
    )


def test_workers_read_a_left_out_field_as_the_profiles_default() -> None:
    read = dataclasses.asdict(read_recipe(Profile().recipe))
    assert read == {name: getattr(Profile(), name) for name in (field.name for field in dataclasses.fields(Recipe))}
