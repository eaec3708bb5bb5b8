"""The base of every group of settings. Apart from settings.py so that groups can live in files of their own."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """A frozen group of settings that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
