"""``cropline move-state``: bind the state database to another storage, or its source to another API address."""

from __future__ import annotations

from cropline.config.settings import load_settings
from cropline.core.errors import SettingsError
from cropline.core.screen import Screen
from cropline.state import State


def run_move(*, storage: bool, api: bool) -> None:
    """Bind the database and print to what. Raises SettingsError when no option is given, or no API is set."""
    settings = load_settings()
    if not storage and not api:
        raise SettingsError("name what has moved: --storage, --api, or both")
    if api and not settings.api.url:
        raise SettingsError("CROPLINE_API__URL: no image API is set; give its new base address, http(s)://host[:port]")
    source, place = settings.api.source, settings.storage.spec.identity
    with State.open(settings.state) as state:
        state.move(source, storage=place if storage else None, api=settings.api.url if api else None)
    screen = Screen()
    if storage:
        screen.print(f"the state database now belongs to the storage {place}", soft_wrap=True)
    if api:
        screen.print(f"{source} is now polled at {settings.api.url}", soft_wrap=True)
