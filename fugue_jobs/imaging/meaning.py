"""The meaning of a photo's samples: their colour space, and which colour is transparent. See docs/pixels.md."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import NamedTuple

from fugue_jobs.imaging.png import Header, Png

Curve = Callable[[float], float]
"""Converts a sample, 0..1, to light, 0..1."""
Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue."""

_SRGB: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_NEAR = 0.001
# H.273's numbers in PNG's cICP. HDR (PQ, HLG) is missing: it has no single meaning in sRGB.
_PRIMARIES: dict[int, Chromaticities] = {
    1: _SRGB,
    4: (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
# The gamma that sRGB encoders write for decoders that know only gAMA.
_SRGB_GAMMA, _NEAR_GAMMA = 0.45455, 0.005


class Meaning(NamedTuple):
    """``icc``: the profile of the samples. ``lut``: 256 levels to 256 levels of sRGB. Without either they are sRGB.

    ``kept``: the profile is the photo's own, not made from its chunks. ``transparent``: the one transparent
    colour, as samples of ``depth`` bits. ``flag``: what could not be applied.
    """

    icc: bytes | None = None
    kept: bool = True
    lut: tuple[int, ...] | None = None
    transparent: tuple[int, ...] | None = None
    depth: int = 8
    flag: str | None = None


def meaning_of(png: Png, icc: bytes | None) -> Meaning:
    """Return a PNG's meaning, in the standard's order: cICP, iCCP (``icc``, unpacked), sRGB, gAMA and cHRM."""
    colours = _colours(png.meaning, icc)
    transparent = _transparent(png.header, png.meaning.get(b"tRNS"))
    return colours._replace(transparent=transparent, depth=png.header.depth)


def _transparent(header: Header, body: bytes | None) -> tuple[int, ...] | None:
    """Return the transparent colour of grey or RGB. Palettes have transparency per entry."""
    count = {0: 1, 2: 3}.get(header.colour, 0)
    if body is None or not count or len(body) < 2 * count:
        return None
    # Bits beyond the depth must be masked.
    return tuple(value & (1 << header.depth) - 1 for value in struct.unpack_from(f">{count}H", body))


def _colours(chunks: dict[bytes, bytes], icc: bytes | None) -> Meaning:
    flag = None
    if b"cICP" in chunks:
        found = _of_code_points(chunks[b"cICP"])
        if found is not None:
            return found
        flag = "colour_ignored"
    if b"iCCP" in chunks:
        return Meaning(icc, flag=flag if icc is not None else "icc_ignored")
    if b"sRGB" in chunks:
        return Meaning(flag=flag)
    if b"gAMA" in chunks or b"cHRM" in chunks:
        found = _of_gamma(chunks.get(b"gAMA"), chunks.get(b"cHRM"))
        return Meaning(flag="colour_ignored") if found is None else found._replace(flag=flag)
    return Meaning(flag=flag)


def _of_code_points(body: bytes) -> Meaning | None:
    """Return the meaning of cICP; None for what is not supported: other colours than RGB, narrow range, HDR."""
    if len(body) < 4 or body[2] != 0 or body[3] != 1:
        return None
    primaries, curve = _PRIMARIES.get(body[0]), _TRANSFER.get(body[1])
    if primaries is None or curve is None:
        return None
    return _described(primaries, curve)


def _of_gamma(gamma: bytes | None, chromaticities: bytes | None) -> Meaning | None:
    """Return the meaning of gAMA and cHRM; a missing one is sRGB's. None for invalid values."""
    primaries = _SRGB
    curve: Curve = _srgb_light
    if chromaticities is not None:
        if len(chromaticities) < 32:
            return None
        read = [value / 100_000 for value in struct.unpack_from(">8I", chromaticities)]
        primaries = (read[0], read[1], read[2], read[3], read[4], read[5], read[6], read[7])
    if gamma is not None:
        value = int.from_bytes(gamma[:4], "big") / 100_000
        if len(gamma) < 4 or not 0.01 <= value <= 100:
            return None
        if not (_is_srgb(primaries) and abs(value - _SRGB_GAMMA) <= _NEAR_GAMMA):
            curve = _power(1 / value)
    return _described(primaries, curve)


def _described(primaries: Chromaticities, curve: Curve) -> Meaning | None:
    if _is_srgb(primaries):
        if curve is _srgb_light:
            return Meaning()
        return Meaning(lut=tuple(_level(_srgb_sample(curve(level / 255))) for level in range(256)))
    try:
        return Meaning(made_profile(primaries, curve), kept=False)
    except (ZeroDivisionError, struct.error, OverflowError):
        return None


def _is_srgb(primaries: Chromaticities) -> bool:
    return all(abs(one - other) <= _NEAR for one, other in zip(primaries, _SRGB, strict=True))


def _level(value: float) -> int:
    return math.floor(255 * min(1.0, max(0.0, value)) + 0.5)


def _srgb_light(sample: float) -> float:
    return sample / 12.92 if sample <= 0.04045 else ((sample + 0.055) / 1.055) ** 2.4


def _srgb_sample(light: float) -> float:
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def _bt709_light(sample: float) -> float:
    return sample / 4.5 if sample < 0.081 else ((sample + 0.099) / 1.099) ** (1 / 0.45)


def _linear(sample: float) -> float:
    return sample


def _power(exponent: float) -> Curve:
    def light(sample: float) -> float:
        return float(sample**exponent)

    return light


_TRANSFER: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 14, 15), _bt709_light),
    4: _power(2.2),
    5: _power(2.8),
    8: _linear,
    13: _srgb_light,
}

_ENTRIES = 1024
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
Matrix = tuple[tuple[float, ...], ...]


def made_profile(primaries: Chromaticities, curve: Curve) -> bytes:
    """Return an ICC profile of three primaries in D50 and one curve. Raise ZeroDivisionError for empty primaries."""
    white = _xyz(primaries[0], primaries[1])
    corners = tuple(zip(*(_xyz(*primaries[at : at + 2]) for at in (2, 4, 6)), strict=True))
    amounts = _times(_inverse(corners), white)
    adapted = _adaptation(white)
    columns = [_times(adapted, tuple(row[part] * amounts[part] for row in corners)) for part in range(3)]
    table = struct.pack(
        f">{_ENTRIES}H", *(math.floor(65535 * curve(entry / (_ENTRIES - 1)) + 0.5) for entry in range(_ENTRIES))
    )
    trc = b"curv" + bytes(4) + struct.pack(">I", _ENTRIES) + table
    tags = [(b"wtpt", _xyz_tag(_D50)), *zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz_tag, columns), strict=True)]
    tags += [(name, trc) for name in (b"rTRC", b"gTRC", b"bTRC")]
    at = 128 + 4 + 12 * len(tags)
    listed, body = b"", b""
    for name, tag in tags:
        listed += name + struct.pack(">II", at + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(">I4sI4s4s4s", at + len(body), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + _xyz_tag(_D50)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + listed + body


def _xyz_tag(xyz: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in xyz))


def _xyz(x: float, y: float) -> tuple[float, float, float]:
    return x / y, 1.0, (1 - x - y) / y


def _adaptation(white: tuple[float, ...]) -> Matrix:
    """Return the Bradford adaptation from this white to D50."""
    own, other = _times(_BRADFORD, white), _times(_BRADFORD, _D50)
    scaled = tuple(tuple(other[row] / own[row] * value for value in values) for row, values in enumerate(_BRADFORD))
    inverse = _inverse(_BRADFORD)
    columns = [_times(inverse, column) for column in zip(*scaled, strict=True)]
    return tuple(zip(*columns, strict=True))


def _times(matrix: Matrix, vector: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    cofactors = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    return tuple(tuple(value / determinant for value in row) for row in cofactors)
