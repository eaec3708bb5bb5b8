"""A run reports how many photos each decoder took, and why regions did not decode one."""

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from cropline.core.schemas import CLAIM, CROPS
from cropline.core.store_spec import StoreSpec
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.outcomes import counts, funnel_of
from cropline.reports.summary import WHY_PILLOW, markdown, summarise
from cropline.state import Batch

SPEC = StoreSpec("file:///nowhere")
ROOT = Path(__file__).resolve().parents[4]
PHOTOS = {"a": "regions", "b": "regions", "c": "pillow: progressive", "d": None}


def test_photos_are_counted_once_by_what_decoded_them_and_the_summary_shows_it() -> None:
    rows = [
        {"source": "s", "image_id": image, "profile": profile, "box_index": box, "status": "skipped"}
        | {"reason": "below_min_side", "decoder": decoder}
        for image, decoder in PHOTOS.items()
        for box in range(3)
        for profile in ("default", "thumb")
    ]
    crops = pa.Table.from_pylist(rows, schema=CROPS)
    now = datetime.now(UTC)
    batch = Batch("b1", 1, "s", now, False, now, CLAIM.empty_table(), ())
    funnel = Funnel()
    funnel.add(funnel_of(batch, crops, counts(batch, crops)))
    funnel.add(funnel_of(batch, crops, counts(batch, crops)))
    assert funnel.decoders == Counter({"regions": 4, "pillow: progressive": 2})
    shown = markdown(summarise("run", funnel, [], SPEC))
    assert "4 by regions, 2 by Pillow (progressive)" in shown


def test_why_pillow_decoded_a_photo_is_told_in_words() -> None:
    found = {
        "regions": 5,
        "pillow: not_installed": 4,
        "pillow: several_scans": 3,
        "pillow": 2,
        "pillow: corrupt": 1,
        "pillow: failed": 1,
    }
    (told,) = [
        why for name, _, why in summarise("run", Funnel(decoders=Counter(found)), [], SPEC).steps if "cropped" in name
    ]
    assert told == (
        "5 by regions, 4 by Pillow (cropline-regions is not installed), 3 by Pillow (several scans), 2 by Pillow, "
        "2 by Pillow (damaged)"
    )


def test_every_reason_of_the_region_decoder_has_its_words() -> None:
    source = "".join((ROOT / name).read_text() for name in ("native/src/_regions.c", "fugue_jobs/imaging/regions.py"))
    told = {
        *re.findall(r'refuse\(job, "(\w+)"\)', source),
        *re.findall(r'reason = "(\w+)"', source),
        *re.findall(r'Decoded\(reason="(\w+)"\)', source),
        *re.findall(r'return None, "(\w+)"', source),
    }
    assert len(told) > 10
    assert told == set(WHY_PILLOW)
