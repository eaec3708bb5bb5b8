"""The kinds of expectations that rules use: Great Expectations' own, which make their configuration once.

GX asks an expectation for its configuration about a hundred times and makes it anew each time. That took a quarter
of a poll's time.
"""

from __future__ import annotations

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

    return {kind: _made_once(getattr(expectations, name)) for kind, name in _OF_GX.items()}


def _made_once(base: type[Expectation]) -> type[Expectation]:
    """Return the class with a configuration that is made again only after a field has changed."""
    from great_expectations.compatibility.pydantic import PrivateAttr

    def configuration(self: Any) -> Any:
        if self._fields_then != self.__dict__:
            self._configuration = base.configuration.__get__(self)
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
