"""The base class of all groups of settings."""

from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Group(BaseModel):
    """A frozen group of settings that refuses names it does not know.

    An empty value of a number, time or the like that need not be set is as good as none: ``CROPLINE_X__DAYS=`` unsets it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_not_set(cls, value: Any, info: ValidationInfo) -> Any:
        if value != "" or info.field_name is None:
            return value
        kinds = get_args(cls.model_fields[info.field_name].annotation)
        return None if NoneType in kinds and str not in kinds else value
