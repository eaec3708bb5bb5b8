"""The terminal as every command writes to it: text stays text.

Ids, URLs, labels and reasons come from outside. Here nothing of a text drives the terminal, is taken for markup unless the
line asks for it, or becomes an emoji (an id may hold ``:100:``). ``plain`` is for the line that does ask.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from cropline.core.scrub import visible


class Screen(Console):
    """Line ends are layout; of a text from outside they go too, by ``visible`` or ``plain``, where it stands in a line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **how: Any) -> Text:
        """What rich calls for every text, of a line, a cell or a bar."""
        return super().render_str("\n".join(map(visible, text.split("\n"))), **how)


def plain(text: str) -> str:
    """Text from outside, for a line with markup of our own."""
    return escape(visible(text))
