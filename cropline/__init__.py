"""The parts that the steps are built of. No Prefect, Fugue or Great Expectations here: only cli.py may call flows."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cropline.crops import open_crop

__all__ = ["open_crop"]


def __getattr__(name: str) -> Any:
    # Lazily: every part of cropline imports this module.
    if name == "open_crop":
        from cropline.crops import open_crop

        return open_crop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
