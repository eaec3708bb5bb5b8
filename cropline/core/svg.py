"""Writes SVG as text: elements with escaped attributes, and documents."""

from __future__ import annotations

import base64
from html import escape

Value = str | int | float | None


def element(name: str, *inside: str, **attributes: Value) -> str:
    """One element. ``inside`` is SVG: pass text through ``text``.

    Attribute names: a trailing underscore is dropped (``class_``), others become hyphens (``text_anchor``). None is left out.
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{named}>{''.join(inside)}</{name}>" if inside else f"<{name}{named}/>"


def text(content: str) -> str:
    """Escaped text."""
    return escape(content)


def document(view_box: tuple[float, float, float, float], *inside: str, **attributes: Value) -> str:
    """A standalone document. ``view_box``: left, top, width, height."""
    sides = " ".join(_value(side) for side in view_box)
    # viewBox is one word, which element would hyphenate.
    return element("svg", *inside, xmlns="http://www.w3.org/2000/svg", **{"viewBox": sides}, **attributes)


def data_uri(picture: str) -> str:
    """The picture as a data URI."""
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.encode()).decode()}"


def _value(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return escape(str(value))
