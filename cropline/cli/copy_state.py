"""``cropline copy-state``: copy the state database into another one."""

from __future__ import annotations

import os

from pydantic import SecretStr, ValidationError

from cropline.config.settings import load_installation
from cropline.config.state import StateSettings
from cropline.core.errors import SettingsError
from cropline.core.screen import Screen
from cropline.state import State


def run_copy(to_env: str) -> None:
    """Copy, and print the number of rows per table. Raises SettingsError when the variable holds no database URL."""
    settings = load_installation().state
    url = os.environ.get(to_env, "")
    if not url:
        raise SettingsError(f"{to_env}: is not set; set it to the new database's URL")
    if url == settings.url.get_secret_value():
        raise SettingsError(f"{to_env}: is the database in CROPLINE_STATE__URL; name another one")
    try:
        other = StateSettings(url=SecretStr(url))
    except ValidationError:
        raise SettingsError(f"{to_env}: must hold sqlite:///path or postgresql+psycopg://...") from None
    screen = Screen()
    with State.open(settings) as old, State.open(other) as new:
        old.copy_to(new, lambda table, rows: screen.print(f"  {table:<16} {rows:>12,}"))
    screen.print("copied; now set CROPLINE_STATE__URL of every worker to the new database")
