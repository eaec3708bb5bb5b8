"""cropline copy-state: the state database into another one."""

from __future__ import annotations

import os

from pydantic import SecretStr, ValidationError

from cropline.config.settings import load_settings
from cropline.config.state import StateSettings
from cropline.core.errors import SettingsError
from cropline.core.screen import Screen
from cropline.state import State


def run_copy(to_env: str) -> None:
    """Copy, and say how many rows of each table. Raises SettingsError when the variable holds no database's URL."""
    settings = load_settings().state
    url = os.environ.get(to_env, "")
    if not url:
        raise SettingsError(f"{to_env}: is not set; put the new database's URL into it")
    if url == settings.url.get_secret_value():
        raise SettingsError(f"{to_env}: is the database of the settings itself")
    try:
        other = StateSettings(url=SecretStr(url))
    except ValidationError:
        raise SettingsError(f"{to_env}: must hold sqlite:///path or postgresql+psycopg://...") from None
    screen = Screen()
    with State.open(settings) as old, State.open(other) as new:
        old.copy_to(new, lambda table, rows: screen.print(f"  {table:<16} {rows:>12,}"))
    screen.print("copied; now point CROPLINE_STATE__URL of every worker at the new database")
