"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Source = Annotated[
    str | None, typer.Option(help="name of one of several sources (CROPLINE_SOURCES); default: the only one")
]
EverySource = Annotated[
    str | None, typer.Option("--source", help="name of one of several sources; default: all of them")
]
