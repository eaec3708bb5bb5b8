"""The console that every command writes to: it prints text literally.

Ids, URLs, labels and reasons come from outside: they cannot control the terminal, act as markup or become an emoji
(``:100:``). Use ``plain`` in lines that have markup.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from cropline.core.scrub import visible


class Screen(Console):
    """A console that keeps line breaks; ``visible`` and ``plain`` escape them too, for text within a line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **how: Any) -> Text:
        """Return the text with unprintable characters escaped. rich calls this for each line, cell and bar."""
        return super().render_str("\n".join(map(visible, text.split("\n"))), **how)


def plain(text: str) -> str:
    """Return external text escaped for a line with markup."""
    return escape(visible(text))
