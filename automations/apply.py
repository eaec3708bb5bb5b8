"""Creates or updates automations from YAML files, by name. Applying a file twice leaves one of each.

Prefect's own ``prefect automation create --from-file`` makes a second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import Automation, AutomationCore
from pydantic import ValidationError

from automations.environments import in_environment
from automations.server import server
from cropline.config.settings import Settings
from cropline.core.errors import SettingsError

_BLOCK = "{{ notify }}"

Done = Literal["created", "updated", "unchanged"]


def apply_files(paths: Sequence[Path], notify: str | None = None, *, settings: Settings) -> list[tuple[str, Done]]:
    """Return (name, what was done) for each automation of the files. ``notify``: a notification block, type-slug/name.

    Raise SettingsError when a file is not a list of automations, or needs a block that is not given or not found.
    """
    with server() as client:
        block = _block_id(notify) if notify else None
        wanted = [automation for path in paths for automation in read_file(path, block, settings)]
        return [(automation.name, _put(client, automation)) for automation in wanted]


def read_file(path: Path, block: str | None, settings: Settings) -> list[AutomationCore]:
    """Return the automations of one file, for the settings' environment. ``block``: id of the notification block."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    if _BLOCK in _without_comments(text) and block is None:
        raise SettingsError(
            f"{path}: needs a notification block; give --notify TYPE/NAME, for example slack-webhook/ops"
        )
    try:
        loaded = yaml.safe_load(text.replace(_BLOCK, block or ""))
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML ({_first_line(error)})") from None
    entries = in_environment(loaded if isinstance(loaded, list) else [loaded], settings)
    return [_automation(path, entry) for entry in entries]


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _automation(path: Path, entry: Any) -> AutomationCore:
    if not isinstance(entry, Mapping):
        raise SettingsError(f"{path}: an automation is a mapping with name, trigger and actions")
    unknown = sorted(set(entry) - set(AutomationCore.model_fields))
    if unknown:
        raise SettingsError(f"{path}: unknown keys {', '.join(unknown)}; Prefect would ignore them")
    try:
        return AutomationCore.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {entry.get('name', 'an automation')}: {where}: {first['msg']}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _block_id(notify: str) -> str:
    from prefect.blocks.core import Block

    try:
        block = Block.load(notify)
    except ValueError:
        raise SettingsError(f"--notify {notify}: there is no such block; the form is TYPE/NAME") from None
    document: Any = getattr(block, "_block_document_id", None)
    return str(document)


def _put(client: SyncPrefectClient, wanted: AutomationCore) -> Done:
    found: list[Automation] = client.read_automations_by_name(name=wanted.name)
    if not found:
        client.create_automation(automation=wanted)
        return "created"
    if _same(found[0], wanted):
        return "unchanged"
    client.update_automation(automation_id=found[0].id, automation=wanted)
    return "updated"


def _same(found: Automation, wanted: AutomationCore) -> bool:
    names = set(AutomationCore.model_fields) - {"owner_resource"}
    held, asked = (_plain(one.model_dump(mode="json", include=names)) for one in (found, wanted))
    return bool(held == asked)


def _plain(value: Any) -> Any:
    """Return the value without what the server adds: ids of triggers and actions. Sets are sorted."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items() if name != "id"}
    if isinstance(value, list):
        return sorted((_plain(entry) for entry in value), key=repr)
    return value
