"""Crop the boxes of shelf and cooler photos. This package holds the Python API and every feature but the crop job.

The API: ``crop`` crops the boxes of a DataFrame, ``read_crops`` returns the catalogue as a DataFrame,
``changes`` what is new or gone in it, ``open_crop`` opens one of its crops and ``show`` draws them. docs/front-door.md
and docs/reading-crops.md have examples.
Not here: the crop job (fugue_jobs), the checks of manifests (expectations), and what Prefect runs (tasks, flows).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cropline.catalogue.changes import Changes, changes
    from cropline.catalogue.crop_files import open_crop
    from cropline.catalogue.reading import read_crops
    from cropline.config.profile import Profile
    from cropline.core.errors import CroplineError, OptionError
    from cropline.reports.sheet import show
    from fugue_jobs.frame.crop import crop
    from fugue_jobs.frame.transformer import crops

__all__ = [
    "Changes",
    "CroplineError",
    "OptionError",
    "Profile",
    "changes",
    "crop",
    "crops",
    "open_crop",
    "read_crops",
    "show",
]

# Lazy: every part of cropline imports this module.
_WHERE = {
    "Changes": "cropline.catalogue.changes",
    "CroplineError": "cropline.core.errors",
    "OptionError": "cropline.core.errors",
    "Profile": "cropline.config.settings",
    "changes": "cropline.catalogue.changes",
    "crop": "fugue_jobs.frame.crop",
    "crops": "fugue_jobs.frame.transformer",
    "open_crop": "cropline.catalogue.crop_files",
    "read_crops": "cropline.catalogue.reading",
    "show": "cropline.reports.sheet",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
