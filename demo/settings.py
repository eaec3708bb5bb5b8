"""The settings of one simulated API. Nothing here is read from the environment."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer

from demo.faults import FaultRule


def default_cache_dir() -> Path:
    """Return where drawn photos are kept between runs: drawing takes most of a start's time."""
    return Path(tempfile.gettempdir()) / "cropline-demo"


def default_workers() -> int:
    """Return one process per core, at most four, so that a laptop stays usable."""
    return min(4, os.cpu_count() or 1)


class DemoSettings(BaseModel):
    """Equal settings give equal stores, captures and boxes, and, with the same Pillow and NumPy, equal bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photos: Annotated[int, Field(ge=0, le=100_000)] = 40
    """Captures that exist at the start; POST /control/advance adds more."""
    seed: int = 7
    megapixels: Annotated[float, Field(ge=0.05, le=20)] = 9.0
    """The resolution of the middle camera model; the others have 0.92 and 1.12 of it. 0.3 makes tests fast."""
    boxes: Annotated[int | None, Field(ge=1)] = None
    """The most boxes of a photo, its first ones in shelf order; None announces all. A few make tests fast."""
    stores: Annotated[int, Field(ge=1, le=12)] = 6
    token: SecretStr = SecretStr("demo-token")
    """The bearer token. It protects invented photos, so the default is public. Signatures are derived from it."""
    cache_dir: Path = Field(default_factory=default_cache_dir)
    workers: Annotated[int, Field(ge=1, le=64)] = Field(default_factory=default_workers)
    """Processes that draw ahead. A script that uses Simulation directly needs a guarded main for more than one."""
    faults: tuple[FaultRule, ...] = ()
    """Faults that are active from the start; POST /control/faults adds more."""

    @field_serializer("token", when_used="json")
    def _hand_down(self, token: SecretStr) -> str:
        # A server process gets its settings as JSON over a pipe.
        return token.get_secret_value()
