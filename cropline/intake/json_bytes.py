"""Parse untrusted JSON; one bad value does not make the rest unreadable.

A value that is nested too deep, or a whole number with too many digits, becomes a text that begins with
LEFT_OUT and states the value's size. The item is then quarantined; its other values stay as they came.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from itertools import accumulate
from typing import Any

LEFT_OUT = "\uf8ffleft out by cropline: "
"""Prefix of the placeholder of a left-out value. Its first character is private-use, so no API sends it."""

_MAX_DEPTH = 100
_MAX_DIGITS = 400
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_ESCAPE_BYTES = re.compile(rb"\\.", re.DOTALL)
_STRING_BYTES = re.compile(rb'"[^"]*+"')
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


def read_json(data: bytes, charset: str | None = None) -> Any:
    """Return the parsed value. ``charset``: that of the answer's header, if any; else UTF-8, -16 or -32 is detected.

    Undecodable bytes become lone surrogates in their text. Raise ValueError when it is not JSON.
    """
    text = _decode(data, charset)
    if _depth(text) > _MAX_DEPTH:
        text = _without_deep_values(text)
    try:
        return json.loads(text, strict=False)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python refuses whole numbers of thousands of digits
        return json.loads(text, strict=False, parse_int=_bounded_int)
    except RecursionError:  # the caller's own stack is deep
        raise ValueError("nested too deep") from None


def left_out(size: int, digest: str, why: str) -> str:
    """Return the placeholder of a value that was left out."""
    return f"{LEFT_OUT}{why}, {size} bytes, sha256 {digest}"


def _decode(data: bytes, charset: str | None) -> str:
    try:
        known = codecs.lookup(charset).name if charset else ""
        if known and known not in ("utf-8", "ascii"):
            return data.decode(known)
    except (LookupError, UnicodeDecodeError):
        pass  # an unknown or a wrong charset: detect the encoding
    return data.decode(json.detect_encoding(data), "surrogateescape" if b"\x00" not in data[:4] else "replace")


def _depth(text: str) -> int:
    """Return how deep brackets are nested outside of strings. Mostly C code, because every page passes through here."""
    shape = text.encode("utf-8", "surrogatepass")
    if b"\\" in shape:
        shape = _ESCAPE_BYTES.sub(b"", shape)  # first: the quote after what is left of \\u00e4 ends its string
    shape = shape.translate(None, _NOT_STRUCTURE).replace(b'""', b"")  # strings without brackets, nearly all of them
    shape = _STRING_BYTES.sub(b"", shape)
    return max(accumulate(_STEP.get(byte, 0) for byte in shape), default=0)


def _without_deep_values(text: str) -> str:
    parts: list[str] = []
    depth = kept_to = began = 0
    for token in _TOKEN.finditer(text):
        step = _STEP.get(ord(token[0])) if len(token[0]) == 1 else None
        if step is None:
            continue
        depth += step
        if step > 0 and depth == _MAX_DEPTH + 1:
            began = token.start()
        elif step < 0 and depth == _MAX_DEPTH:
            value = text[began : token.end()].encode("utf-8", "surrogatepass")
            mark = left_out(len(value), hashlib.sha256(value).hexdigest(), f"nested more than {_MAX_DEPTH} deep")
            parts += [text[kept_to:began], json.dumps(mark)]
            kept_to = token.end()
    return "".join([*parts, text[kept_to:]])


def _bounded_int(digits: str) -> int | str:
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    value = digits.encode()
    return left_out(len(value), hashlib.sha256(value).hexdigest(), f"a number of {len(value)} digits")
