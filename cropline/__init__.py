"""Crops of shelf and cooler photos: the library, and the way in for DataFrames.

``crop`` crops the boxes of a DataFrame; ``read_crops`` gives the catalogue as one, ``open_crop`` one of its crops; ``show`` draws them. docs/front-door.md has examples.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cropline.crop_files import open_crop
    from cropline.errors import CroplineError, OptionError
    from cropline.reading import read_crops
    from cropline.settings import Profile
    from cropline.sheet import show
    from fugue_jobs.frame.crop import crop
    from fugue_jobs.frame.transformer import crops

__all__ = ["CroplineError", "OptionError", "Profile", "crop", "crops", "open_crop", "read_crops", "show"]

# Lazily: every part of cropline imports this module.
_WHERE = {
    "CroplineError": "cropline.errors",
    "OptionError": "cropline.errors",
    "Profile": "cropline.settings",
    "crop": "fugue_jobs.frame.crop",
    "crops": "fugue_jobs.frame.transformer",
    "open_crop": "cropline.crop_files",
    "read_crops": "cropline.reading",
    "show": "cropline.sheet",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
