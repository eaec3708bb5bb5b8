"""Reads the commands in docs/operations.md, as a reader would copy them.

```sh blocks are commands; ```text blocks need names that the reader fills in.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

_BLOCK = re.compile(r"^(?P<indent> *)```sh\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)


def shell_blocks(path: Path) -> list[str]:
    """Return each block's commands without the indentation of their list."""
    return [dedent(found["body"]).strip() for found in _BLOCK.finditer(path.read_text(encoding="utf-8"))]
