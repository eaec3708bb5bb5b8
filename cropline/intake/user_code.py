"""Load the functions of users that settings name, and say where they failed.

Their errors may quote a password or a signed address, so a message names the type of an error and its line only.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from cropline.config.named_function import find_named
from cropline.core.errors import SettingsError


@lru_cache(maxsize=16)
def load_function(setting: str, use: str, group: str) -> Callable[..., Any]:
    """Return the function that a setting names. Raise SettingsError, which names both."""
    try:
        module, _, name = find_named(use, group)[0].partition(":")
    except ValueError as error:
        raise SettingsError(f"{setting}: {error}") from None
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        whose = "" if module == missing or module.startswith(f"{missing}.") else f", which {use} imports,"
        raise SettingsError(
            f"{setting}: no module {missing}{whose} is installed; install it, or put its folder on PYTHONPATH"
        ) from None
    except Exception as error:  # noqa: BLE001 - a module raises anything
        raise SettingsError(f"{setting}: {use} cannot be imported: {where(error)}") from None
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise SettingsError(f"{setting}: {module} has no function {name}")
    return found  # type: ignore[no-any-return]


def where(error: BaseException) -> str:
    """Return the type of an error, and the user's line that led to it: "KeyError (feed.py, line 12)"."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__} ({Path(error.filename).name}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    files = [(Path(frame.filename), frame.lineno) for frame in frames if not frame.filename.startswith("<frozen")]
    theirs = [(file, line) for file, line in files if not any(file.is_relative_to(folder) for folder in _NOT_THEIRS)]
    near = [(file, line) for file, line in theirs if file.is_relative_to(theirs[0][0].parent)]
    return f"{type(error).__name__} ({near[-1][0].name}, line {near[-1][1]})" if near else type(error).__name__


_NOT_THEIRS = (Path(__file__).parents[1], Path(import_module.__code__.co_filename).parent)
