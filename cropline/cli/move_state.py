"""``cropline move-state``: bind the state database to another storage, or its source to another API address."""

from __future__ import annotations

from cropline.config.settings import Settings, load_installation, load_settings
from cropline.core.errors import SettingsError
from cropline.core.screen import Screen
from cropline.intake.image_api import check_is_set
from cropline.state import State


def run_move(*, storage: bool, api: bool, source: str | None = None) -> None:
    """Bind the database and print to what. Raises SettingsError when no option is given, or no API is set."""
    settings = _settings(source, api=api)
    if not storage and not api:
        raise SettingsError("name what has moved: --storage, --api, or both")
    if api:
        check_is_set(settings.api)
    source, place = settings.api.source, settings.storage.spec.identity
    with State.open(settings.state) as state:
        state.move(source, storage=place if storage else None, api=settings.api.address if api else None)
    screen = Screen()
    if storage:
        screen.print(f"the state database now belongs to the storage {place}", soft_wrap=True)
    if api:
        screen.print(f"{source} is now polled at {settings.api.place}", soft_wrap=True)


def _settings(source: str | None, *, api: bool) -> Settings:
    """Return the settings of the source; a move of the storage needs none."""
    settings = load_installation()
    return load_settings(source) if api else settings.of(source or settings.source_names[0])
