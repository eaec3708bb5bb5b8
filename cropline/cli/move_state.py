"""cropline move-state: the state database belongs to another storage, or its source to another API address."""

from __future__ import annotations

from cropline.config.settings import load_settings
from cropline.core.errors import SettingsError
from cropline.core.screen import Screen
from cropline.state import State


def run_move(*, storage: bool, api: bool) -> None:
    """Bind it anew, and say to what. Raises SettingsError when nothing is asked for, or no API is set."""
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
        screen.print(f"the state database belongs to the storage {place} now", soft_wrap=True)
    if api:
        screen.print(f"{source} is polled at {settings.api.url} now", soft_wrap=True)
