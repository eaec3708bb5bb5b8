"""The bed's photos rewritten coefficient for coefficient, and cut without loss as jpegtran does."""

from __future__ import annotations

import ctypes

from ways import LIBRARY, scratch


class Coefficients:
    """All coefficients of a photo, in memory."""

    def __init__(self, data: bytes) -> None:
        self._out = scratch(2 * len(data))
        self._handle = ctypes.c_void_p(LIBRARY.coefficients_open(data, ctypes.c_size_t(len(data))))

    def rewritten(self, *, restart_rows: int = 0, restart_blocks: int = 0, progressive: bool = False) -> bytes:
        return self._answer(LIBRARY.transcode, restart_rows, restart_blocks, progressive)

    def cut(self, left: int, top: int, width: int, height: int, *, optimize: bool = False) -> bytes:
        """Return a cut. left and top are in MCUs, width and height in pixels."""
        return self._answer(LIBRARY.lossless_cut, left, top, width, height, optimize)

    def _answer(self, function: object, *arguments: int) -> bytes:
        length = function(self._handle, *arguments, self._out, ctypes.c_size_t(len(self._out)))  # type: ignore[operator]
        if not length:
            raise ValueError("it does not fit")
        return ctypes.string_at(self._out, length)

    def close(self) -> None:
        LIBRARY.coefficients_close(self._handle)


def rewritten(data: bytes, *, restart_rows: int = 0, restart_blocks: int = 0, progressive: bool = False) -> bytes:
    coefficients = Coefficients(data)
    try:
        return coefficients.rewritten(restart_rows=restart_rows, restart_blocks=restart_blocks, progressive=progressive)
    finally:
        coefficients.close()
