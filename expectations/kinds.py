"""The kinds of expectations that rules use: Great Expectations' own, which make their configuration once.

GX asks an expectation for its configuration about a hundred times and makes it anew each time; from a configuration it
makes the expectation again, for each metric. Each metric's id is the hash of a dictionary. All of it together took
more than a third of a poll's time.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

_OF_GX = {
    "not_null": "ExpectColumnValuesToNotBeNull",
    "null": "ExpectColumnValuesToBeNull",
    "unique": "ExpectColumnValuesToBeUnique",
    "one_of": "ExpectColumnValuesToBeInSet",
    "between": "ExpectColumnValuesToBeBetween",
}


@cache
def kinds() -> dict[str, type[Expectation]]:
    """Return {kind of a check: class}. The first call imports GX."""
    from great_expectations import expectations
    from great_expectations.core import id_dict

    id_dict.convert_to_json_serializable = _knows_null(id_dict.convert_to_json_serializable)  # type: ignore[assignment, attr-defined]
    return {kind: _made_once(getattr(expectations, name)) for kind, name in _OF_GX.items()}


def _knows_null(convert: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the same conversion of a dictionary. GX compares None, most of an id's values, with all types of NumPy."""

    def converted(data: dict[str, Any]) -> dict[str, Any]:
        nulls: dict[str, Any] = {str(key): None for key, value in data.items() if value is None}
        others: dict[str, Any] = convert({key: value for key, value in data.items() if value is not None})
        return nulls | others

    return converted


def _made_once(base: type[Expectation]) -> type[Expectation]:
    """Return the class with a configuration that is made again only after a field has changed."""
    from great_expectations.compatibility.pydantic import PrivateAttr

    def configuration(self: Any) -> Any:
        if self._fields_then != self.__dict__:
            self._configuration = _of(self, base.configuration.__get__(self))
            self._fields_then = dict(self.__dict__)
        return self._configuration

    made: type[Expectation] = type(base)(  # type: ignore[misc]
        f"Cropline{base.__name__}",  # GX registers a class by its name: its own classes stay as they are
        (base,),
        {
            "__module__": __name__,
            "__doc__": base.__doc__,
            "_fields_then": PrivateAttr(None),
            "_configuration": PrivateAttr(None),
            "configuration": property(configuration),
        },
    )
    return made


def _of(expectation: Expectation, configuration: Any) -> Any:
    """Return a configuration that gives back its expectation, and makes another only after a field has changed."""
    configuration.__class__ = _configurations()
    configuration.made, configuration.made_of = expectation, configuration.fields()
    return configuration


@cache
def _configurations() -> type[Any]:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    class Configuration(ExpectationConfiguration):
        made: Expectation | None
        made_of: dict[str, Any]

        def fields(self) -> dict[str, Any]:
            """Return a copy of GX's own fields."""
            own = {name: value for name, value in self.__dict__.items() if name not in ("made", "made_of")}
            return own | {"_kwargs": dict(self.kwargs), "meta": dict(self.meta or {})}

        def to_domain_obj(self) -> Expectation:
            fields = self.fields()
            if self.made is None or self.made_of != fields:
                self.made, self.made_of = super().to_domain_obj(), fields
            return self.made

        def __deepcopy__(self, memo: dict[int, Any]) -> Configuration:
            copied = type(self).__new__(type(self))
            copied.__dict__ = deepcopy(self.fields(), memo) | {"made": None, "made_of": {}}
            return copied

    return Configuration
