"""A function of the user's own, given by name or as it is, as a step of the profile."""

from __future__ import annotations

import hashlib
import inspect
import marshal
import sys
from collections.abc import Callable, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cropline.config.steps import Step, identity
from cropline.core.column_types import parse_columns
from cropline.core.errors import OptionError
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from types import ModuleType

    from cropline.config.profile import Profile

Function = str | Callable[..., Any]
Extras = str | Mapping[str, str]

Pickled = tuple[tuple[str, bytes], ...]


def with_function(
    profile: Profile, function: Function | None, extras: Extras | None, version: str | None
) -> tuple[Profile, Pickled]:
    """The profile with the function as its last step, and the function itself where it has no name to be found by.

    Raises OptionError for a function that cannot be found or sent, and for columns that are none.
    """
    if function is None:
        for option, value in (("extras", extras), ("version", version)):
            if value is not None:
                raise OptionError(f"{option}: there is no function; give function=, too")
        return profile, ()
    columns = dict(_columns(extras))
    pickled: Pickled = ()
    try:
        if isinstance(function, str):
            step = Step(use=function, version=version or identity(function), columns=columns)
        else:
            use = f"function:{getattr(function, '__qualname__', type(function).__qualname__)}"
            step = Step(use=use, version=version or source_hash(function), columns=columns)
            pickled = ((use, _pickled(function)),)
    except OptionError:
        raise
    except (ValidationError, ValueError) as error:
        text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise OptionError(f"function: {one_line(text)}") from None
    return profile.model_copy(update={"steps": (*profile.steps, step)}), pickled


def _columns(extras: Extras | None) -> tuple[tuple[str, str], ...]:
    try:
        return parse_columns(extras or "")
    except (ValueError, AttributeError, TypeError) as error:
        raise OptionError(f"extras: {one_line(str(error))}") from None


def source_hash(function: Callable[..., Any]) -> str:
    """What makes a function another one: its source, or its code where there is none. Not what it calls or closes over.

    Raises OptionError for what has neither.
    """
    if not callable(function):
        raise OptionError(f"function: a {type(function).__name__} is no function")
    target: Any = function if inspect.isroutine(function) or isinstance(function, type) else type(function)
    try:
        text = inspect.getsource(target).encode()
    except (OSError, TypeError):
        code = getattr(target, "__code__", None)
        if not isinstance(code, CodeType):
            raise OptionError("version: the function has no source to be known by; say version=") from None
        text = marshal.dumps(code.replace(co_filename="", co_firstlineno=1))
    return hashlib.sha256(text).hexdigest()[:16]


def _pickled(function: Callable[..., Any]) -> bytes:
    import cloudpickle

    module = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
    by_value = module is not None and _is_own(module)
    if by_value:
        # A module beside the notebook is not on workers.
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(function)
    except Exception as error:  # noqa: BLE001 - whatever a value's own pickling raises
        raise OptionError(f"function: it cannot be sent to crop processes: {type(error).__name__}: {error}") from None
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def _is_own(module: ModuleType) -> bool:
    """Whether it is neither installed nor a part of Python."""
    place = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or place is None:
        return False
    return "site-packages" not in place and not place.startswith(sys.base_prefix)
