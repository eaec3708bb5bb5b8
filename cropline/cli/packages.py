"""Checks that Python finds cropline's own packages under their short names (``flows``, ``tasks`` and others)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cropline
from cropline.core.errors import SettingsError

PACKAGES = ("flows", "tasks", "fugue_jobs", "expectations", "drift", "automations", "demo")


def refuse_name_clashes() -> None:
    """Raise SettingsError when another package of the same name comes first on the path.

    docs/architecture.md says why the names are short.
    """
    root = Path(cropline.__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        if places != [root / name]:
            found = (
                f"{places[0]} comes first" if places else "it is missing" if spec is None else "a module comes first"
            )
            raise SettingsError(
                f"cropline's package {name!r} cannot be imported: {found}; remove it from PYTHONPATH, "
                "or install cropline into a separate environment"
            )
