"""Why a JPEG is left to Pillow."""

from __future__ import annotations


class Undecoded(Exception):
    """This JPEG is not supported: Pillow decodes it, or fails on it. ``reason`` is one word, ``detail`` has more.

    progressive, arithmetic, precision, lossless, several_scans, components, colour_space, tables: unsupported kinds of JPEG.
    corrupt: libjpeg warned of the data, or it does not end as it should. failed: libjpeg gave up.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
