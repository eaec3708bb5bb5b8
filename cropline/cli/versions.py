"""Reads a version of the catalogue from the command line: its number, or a time."""

from __future__ import annotations

import re

import typer
from pydantic import TypeAdapter, ValidationError

from cropline.catalogue.versions import Version
from cropline.core.request import Moment, in_utc

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


def read_version(text: str, option: str) -> Version:
    """Return the version. Digits alone are a number. Raise BadParameter, which names the option."""
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        return in_utc(TypeAdapter[Moment](Moment).validate_python(text))
    except ValidationError:
        raise typer.BadParameter(
            f"{text!r} is neither the number of a version nor a time in ISO 8601", param_hint=option
        ) from None
