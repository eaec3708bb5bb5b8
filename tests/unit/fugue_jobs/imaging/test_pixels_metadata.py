"""A crop contains the picture and no metadata: asserted on the written bytes."""

import io
import sys
from subprocess import run
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cropline.config.profile import Profile
from fugue_jobs.work import Box
from tests.photos import drawn, encoded
from tests.unit.fugue_jobs.imaging.cutting import cuts, work_for
from tests.unit.fugue_jobs.imaging.forged import segment

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

CANARY = b"canary-52N-13E"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note>' + CANARY + b"</note></x:xmpmeta>"
BOX = Box("a", 0.1, 0.1, 0.9, 0.9)


def exif() -> bytes:
    block = Image.Exif()
    block[0x010E] = CANARY.decode()
    block.get_ifd(0x8825)[29] = CANARY.decode()
    block.get_ifd(0x8769)[0x927C] = CANARY
    return block.tobytes()


def photos() -> dict[str, bytes]:
    picture = drawn(200, 150)
    text = PngInfo()
    text.add_text("Comment", CANARY.decode())
    text.add_text("Author", CANARY.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    paletted = picture.quantize(32)
    jpeg = encoded(picture, exif=exif(), xmp=XMP, comment=CANARY, dpi=(301, 301))
    # IPTC, C2PA, FlashPix, Ducky, a vendor's notes.
    starts = ((0xED, b"Photoshop 3.0\0"), (0xEB, b"JP"), (0xE2, b"FPXR\0"), (0xEC, b"Ducky"), (0xE7, b""))
    jpeg = jpeg[:2] + b"".join(segment(marker, start + CANARY) for marker, start in starts) + jpeg[2:]
    return {
        "JPEG": jpeg + CANARY,
        "PNG": encoded(picture, "PNG", exif=exif(), pnginfo=text, dpi=(301, 301)) + CANARY,
        "WEBP": encoded(picture, "WEBP", exif=exif(), xmp=XMP),
        "TIFF": encoded(picture, "TIFF", exif=exif(), dpi=(301, 301)),
        "GIF": encoded(paletted, "GIF", comment=CANARY),
        "AVIF": encoded(picture, "AVIF", exif=exif(), xmp=XMP),
    }


@pytest.mark.parametrize("kind", photos())
def test_the_photos_of_this_suite_hold_what_must_not_reach_a_crop(kind: str) -> None:
    assert CANARY in photos()[kind]


@pytest.mark.parametrize("kind", photos())
@pytest.mark.parametrize("written", ["jpeg", "png", "webp", "avif"])
@pytest.mark.parametrize("colour", ["srgb", "keep_icc"])
def test_no_metadata_reaches_a_crop(kind: str, written: Any, colour: Any) -> None:
    profile = Profile(format=written, colour=colour)
    for max_side in (None, 50):
        cut = cuts(
            photos()[kind],
            work_for(BOX, profiles=(profile.model_copy(update={"max_side": max_side}),)),
            formats=(kind,),
        )[0]
        assert cut.data is not None
        for trace in (CANARY, b"Exif", b"eXIf", b"EXIF", b"xmp", b"XMP ", b"tEXt", b"iTXt", b"zTXt", b"pHYs", b"iCCP"):
            assert trace not in cut.data
        info = Image.open(io.BytesIO(cut.data)).info
        assert not info.keys() - {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background"}
        assert info.get("jfif_density", (1, 1)) == (1, 1)


def test_the_same_input_gives_the_same_bytes_in_another_process() -> None:
    code = """
import sys; sys.path.insert(0, "")
import hashlib
from tests.unit.fugue_jobs.imaging.test_pixels_metadata import digests
print("\\n".join(digests()))
"""
    done = run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == digests()


def digests() -> list[str]:
    profiles = tuple(
        Profile(format=kind, max_side=side) for kind in ("jpeg", "png", "webp", "avif") for side in (None, 60)
    )
    found = cuts(encoded(drawn(200, 150), quality=92), work_for(BOX, profiles=profiles))
    return [str(cut.outcome.sha256) for cut in found]
