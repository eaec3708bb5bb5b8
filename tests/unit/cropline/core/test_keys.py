"""Keys are safe, short and unique for any image id; equal work has equal fingerprints."""

import itertools
import unicodedata

from cropline.core import keys

HOSTILE_IDS = [
    "../../etc/passwd", "..", ".", "", "/", "a/b", "a\\b", "nul\x00byte", "new\nline", "A", "a", "x" * 1024, "x" * 1023,
    unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "CON", "con", "a b", "a%20b", "a?b", "a#b",
    "漢字", "\ud800", "-", "--", "a-", "-a", "‮evil",
]  # fmt: skip
BOX = {"box_id": "b1", "xmin": 0.1, "ymin": 0.2, "xmax": 0.3, "ymax": 0.4, "label": "cola", "score": 0.9}


def _key(image_id: str, box_id: str = "b", index: int = 0) -> str:
    return keys.crop_key("cams", image_id, "default", "f" * 64, index, box_id, "jpg")


def test_hostile_ids_become_safe_keys() -> None:
    for hostile in HOSTILE_IDS:
        for key in (_key(hostile), _key("i", hostile)):
            assert all(part not in ("", ".", "..") for part in key.split("/"))
            assert key.isascii()
            assert key == key.lower()
            assert len(key) < 250
            assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_/.")


def test_different_ids_never_share_a_key() -> None:
    for one, other in itertools.combinations(HOSTILE_IDS, 2):
        assert _key(one).casefold() != _key(other).casefold()
        assert _key("i", one).casefold() != _key("i", other).casefold()


def test_boxes_that_share_an_id_have_their_own_keys() -> None:
    assert _key("i", "b", 0) != _key("i", "b", 1)


def test_another_version_never_overwrites_a_crop() -> None:
    old = keys.fingerprint(keys.content_hash("v1", "normalised", "upright", [BOX]), "p")
    new = keys.fingerprint(keys.content_hash("v2", "normalised", "upright", [BOX]), "p")
    make = lambda f: keys.crop_key("s", "i", "p", f, 0, "b", "jpg")  # noqa: E731
    assert make(old) != make(new)


def test_what_a_crop_depends_on_is_in_the_content_hash() -> None:
    base = keys.content_hash("v", "normalised", "upright", [BOX])
    assert base == keys.content_hash("v", "normalised", "upright", [dict(BOX)])
    assert base == keys.content_hash("v", "normalised", "upright", [BOX | {"score": 0.5}])
    for changed in ({"xmin": 0.11}, {"ymax": 0.41}, {"box_id": "b2"}, {"label": "tea"}):
        assert base != keys.content_hash("v", "normalised", "upright", [BOX | changed])
    assert base != keys.content_hash("v", "pixels", "upright", [BOX])
    assert base != keys.content_hash("v", "normalised", "stored", [BOX])
    assert base != keys.content_hash("v", "normalised", "upright", [BOX, BOX])


def test_parts_of_a_digest_do_not_run_together() -> None:
    assert keys.digest("ab", "c") != keys.digest("a", "bc")
