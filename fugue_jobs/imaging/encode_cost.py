"""What encoders cost, by format and effort. Without Pillow, since batches are planned where it is not needed."""

from __future__ import annotations

PIXELS = 60_000
"""Pixels of the crop that the table is for."""
# CPU seconds, from docs/decisions/0030-effort.md; AVIF from 6 on was measured against 4. The first effort is the default.
_SECONDS = {
    "jpeg": {0: 0.0002, 1: 0.0005},
    "png": {1: 0.0047, 0: 0.0025, 2: 0.0052, 4: 0.0087, 6: 0.0232, 9: 0.0578},
    "webp": {4: 0.0054, 0: 0.0018, 2: 0.0025, 5: 0.0059, 6: 0.0105},
    "webp lossless": {1: 0.0199, 0: 0.0067, 2: 0.0285, 4: 0.0661, 6: 0.1175},
    "avif": {4: 0.0414, 0: 0.0051, 2: 0.0129, 3: 0.023, 5: 0.2536, 6: 0.3, 8: 0.8, 10: 2.5},
}


def encode_s(kind: str, effort: int | None, *, lossless: bool, pixels: int = PIXELS) -> float:
    """Return the CPU seconds of encoding a crop of so many pixels. Raise KeyError for an unknown format."""
    known = _SECONDS["webp lossless" if kind == "webp" and lossless else kind]
    asked = next(iter(known)) if effort is None else effort
    return known[min((each for each in known if each >= asked), default=max(known))] * pixels / PIXELS
