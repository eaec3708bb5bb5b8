"""A run says how many photos each decoder took, and why one was not decoded by regions."""

from collections import Counter
from datetime import UTC, datetime

import pyarrow as pa

from cropline.funnel import Funnel
from cropline.outcomes import add_to, counts
from cropline.report.summary import markdown, summarise
from cropline.schemas import CLAIM, CROPS
from cropline.state import Batch
from cropline.storage import StoreSpec

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
    add_to(funnel, batch, crops, counts(batch, crops))
    add_to(funnel, batch, crops, counts(batch, crops))
    assert funnel.decoders == Counter({"regions": 4, "pillow: progressive": 2})
    shown = markdown(summarise("run", funnel, [], StoreSpec("file:///nowhere")))
    assert "4 by regions, 2 by pillow: progressive" in shown
