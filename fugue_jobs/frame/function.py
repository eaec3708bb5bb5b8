"""The user's function, given as an object or by name, as a step of the profile."""

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
    """Return the profile with the function as its last step, and the pickled function if it has no importable name.

    Raise OptionError for a function that cannot be found or sent, and for invalid columns.
    """
    if function is None:
        for option, value in (("extras", extras), ("version", version)):
            if value is not None:
                raise OptionError(f"{option}: needs function=")
        return profile, ()
    if profile.copies_bits:
        raise OptionError("function: a lossless jpeg profile copies the photo's bits, and a function needs pixels")
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
    """Return a hash of the function's source, or of its code where there is none.

    It does not cover functions that it calls or values that it closes over.
    Raise OptionError when it has neither source nor code.
    """
    if not callable(function):
        raise OptionError(f"function: a {type(function).__name__} is not a function")
    target: Any = function if inspect.isroutine(function) or isinstance(function, type) else type(function)
    try:
        text = inspect.getsource(target).encode()
    except (OSError, TypeError):
        code = getattr(target, "__code__", None)
        if not isinstance(code, CodeType):
            raise OptionError("version: the function has no source to hash; pass version=") from None
        text = marshal.dumps(code.replace(co_filename="", co_firstlineno=1))
    return hashlib.sha256(text).hexdigest()[:16]


def _pickled(function: Callable[..., Any]) -> bytes:
    import cloudpickle

    module = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
    by_value = module is not None and _is_own(module)
    if by_value:
        # Workers do not have a module that is in the notebook's folder.
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(function)
    except Exception as error:  # noqa: BLE001 - a value's own pickling raises anything
        raise OptionError(f"function: it cannot be sent to crop processes: {type(error).__name__}: {error}") from None
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def _is_own(module: ModuleType) -> bool:
    """Return whether the module is neither installed nor part of Python."""
    place = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or place is None:
        return False
    return "site-packages" not in place and not place.startswith(sys.base_prefix)
