"""The faults: their names, how often and for which image they apply, and what cropline should do.

The last column has the reason code if a photo fails, and the expected behaviour otherwise. spoil.py makes
the broken bytes and rows.

========================  ===========================================  =============================================
fault                     on the wire                                  cropline
========================  ===========================================  =============================================
listing_429               429, Retry-After (``seconds``, 1)            waits as asked, then goes on
listing_500               500                                          retries, then fails the poll; the cursor stays
listing_html              200, an HTML page                            fails the poll: not JSON
listing_cursor_loop       every page names the same next_cursor        notices, fails the poll
image_429                 429, Retry-After (``seconds``, 1)            http_429: tried again, not earlier than asked
image_500                 500                                          http_5xx: tried again later
image_missing             404                                          http_404: not tried again
image_html                200, text/html                               not_a_picture
image_slow_drip           the bytes, 1 KiB every ``seconds`` (0.2)     timeout: tried again later
image_truncated           Content-Length right, half the body, closed  truncated: tried again later
image_truncated_chunked   chunked, half, closed without an end chunk   truncated: tried again later
image_truncated_silently  chunked, half, properly ended                truncated: its size is not the listed one
image_corrupt_scan        bits flipped in the scan; still decodes      hash_mismatch: only its hash is wrong
image_corrupt_header      the first KiB is zeros                       hash_mismatch
image_gzip_bomb           Content-Encoding gzip, 24 KiB make 24 MiB    encoded_body: never unpacked
image_redirect            302 to http://169.254.169.254/               forbidden_address: never requested
broken_original           header destroyed, and the listing's sha256,  not_a_picture; the rest of its batch goes on
                          bytes and etag are those of the broken bytes
row_without_id            no ``id``                                    quarantined
row_not_an_object         a string in place of the row                 quarantined
row_text_coordinate       ``xmin`` is "left"                           quarantined
row_nan_coordinate        ``xmin`` is NaN, as Python writes it         fails the poll: NaN is not JSON
row_infinite_coordinate   ``xmin`` is 1e999: JSON, but not finite      quarantined
row_null_boxes            ``boxes`` is null                            quarantined
row_inverted_box          ``xmin`` > ``xmax``                          quarantined
row_box_outside           ``xmax`` is 57.0: a pixel, not a share       quarantined
row_repeated_box_id       two boxes of one id                          quarantined
row_bad_timestamp         ``updated_at`` is "yesterday"                quarantined
row_negative_bytes        ``bytes`` is -1                              quarantined
row_file_url              ``url`` is file:///etc/hostname              quarantined; never opened
row_private_url           ``url`` is http://169.254.169.254/...        forbidden_address: never requested
row_duplicate             the same row twice on a page                 cropped once, the second is quarantined
late_arrival              left out of the listing, listed later with   found by the poll's overlap
                          its old ``updated_at``
========================  ===========================================  =============================================
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Fault(StrEnum):
    """Every fault's name begins with what it affects."""

    LISTING_429 = "listing_429"
    LISTING_500 = "listing_500"
    LISTING_HTML = "listing_html"
    LISTING_CURSOR_LOOP = "listing_cursor_loop"

    IMAGE_429 = "image_429"
    IMAGE_500 = "image_500"
    IMAGE_MISSING = "image_missing"
    IMAGE_HTML = "image_html"
    IMAGE_SLOW_DRIP = "image_slow_drip"
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_TRUNCATED_CHUNKED = "image_truncated_chunked"
    IMAGE_TRUNCATED_SILENTLY = "image_truncated_silently"
    IMAGE_CORRUPT_SCAN = "image_corrupt_scan"
    IMAGE_CORRUPT_HEADER = "image_corrupt_header"
    IMAGE_GZIP_BOMB = "image_gzip_bomb"
    IMAGE_REDIRECT = "image_redirect"

    BROKEN_ORIGINAL = "broken_original"

    ROW_WITHOUT_ID = "row_without_id"
    ROW_NOT_AN_OBJECT = "row_not_an_object"
    ROW_TEXT_COORDINATE = "row_text_coordinate"
    ROW_NAN_COORDINATE = "row_nan_coordinate"
    ROW_INFINITE_COORDINATE = "row_infinite_coordinate"
    ROW_NULL_BOXES = "row_null_boxes"
    ROW_INVERTED_BOX = "row_inverted_box"
    ROW_BOX_OUTSIDE = "row_box_outside"
    ROW_REPEATED_BOX_ID = "row_repeated_box_id"
    ROW_BAD_TIMESTAMP = "row_bad_timestamp"
    ROW_NEGATIVE_BYTES = "row_negative_bytes"
    ROW_FILE_URL = "row_file_url"
    ROW_PRIVATE_URL = "row_private_url"
    ROW_DUPLICATE = "row_duplicate"

    LATE_ARRIVAL = "late_arrival"


LISTING_FAULTS = frozenset(fault for fault in Fault if fault.startswith("listing_"))
IMAGE_FAULTS = frozenset(fault for fault in Fault if fault.startswith("image_"))
ROW_FAULTS = frozenset(fault for fault in Fault if fault.startswith("row_"))


class FaultRule(BaseModel):
    """An active fault: for one image or any, for the next few times or until it is switched off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    image_id: Annotated[str | None, Field(description="The affected image; null affects any.")] = None
    times: Annotated[
        int | None,
        Field(ge=1, description="How often it applies: requests, or rows for row_* faults. Null: until cleared."),
    ] = None
    seconds: Annotated[
        float | None,
        Field(ge=0, le=3600, description="Retry-After of a 429; pause between the pieces of a slow response."),
    ] = None

    @model_validator(mode="after")
    def _makes_sense(self) -> "FaultRule":
        if self.fault in LISTING_FAULTS and self.image_id is not None:
            raise ValueError(f"{self.fault} affects whole pages: it takes no image_id")
        if self.fault is Fault.BROKEN_ORIGINAL and (self.image_id is None or self.times is not None):
            raise ValueError("broken_original needs an image_id and lasts until cleared")
        return self


@dataclass(slots=True)
class _Live:
    rule: FaultRule
    left: int | None


class FaultBook:
    """The active faults. Thread-safe."""

    def __init__(self, rules: Iterable[FaultRule] = ()) -> None:
        self._lock = threading.Lock()
        self._live = [_Live(rule, rule.times) for rule in rules]

    def add(self, rule: FaultRule) -> None:
        """Add a fault. Of several that apply, the one added first is used."""
        with self._lock:
            self._live.append(_Live(rule, rule.times))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._live.clear()

    def rules(self) -> list[FaultRule]:
        """Return the active faults; ``times`` is the remaining number."""
        with self._lock:
            return [live.rule.model_copy(update={"times": live.left}) for live in self._live]

    def strike(self, kinds: frozenset[Fault], image_id: str | None = None) -> FaultRule | None:
        """Return the rule that applies now, counted down; None when none does."""
        with self._lock:
            for live in self._live:
                if live.rule.fault in kinds and live.rule.image_id in (None, image_id):
                    if live.left is not None:
                        live.left -= 1
                        if live.left == 0:
                            self._live.remove(live)
                    return live.rule
        return None
