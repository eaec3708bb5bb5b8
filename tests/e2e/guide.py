"""The commands that docs/operations.md prints, as a reader would copy them.

Belongs here: reading them. Does not: running them. ```sh blocks are commands; ```text blocks need names of one's own.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

_BLOCK = re.compile(r"^(?P<indent> *)```sh\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)


def shell_blocks(path: Path) -> list[str]:
    """Each block's commands, without the indentation of the list that it stands in."""
    return [dedent(found["body"]).strip() for found in _BLOCK.finditer(path.read_text(encoding="utf-8"))]
