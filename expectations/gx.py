"""The only module that calls Great Expectations: quietly, in memory, without network.

Importing GX takes seconds, so it is imported only inside a call.
"""

from __future__ import annotations

import html
import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cropline.core.errors import ManifestError, SettingsError
from expectations.kinds import kinds
from expectations.lean_import import imported_later
from expectations.manifest import Rule, Severity

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from great_expectations.expectations.expectation import Expectation

KEY = "row"


@dataclass(frozen=True)
class ExpectationOutcome:
    """The result of one expectation. ``evaluated`` and ``unexpected`` count values; only null checks count nulls."""

    name: str
    severity: Severity
    column: str | None
    evaluated: int
    unexpected: int
    success: bool
    description: str


@dataclass(frozen=True)
class SuiteRun:
    """One suite's outcomes, the keys of the rows that broke each rule, and GX's own result for its pages."""

    outcomes: list[ExpectationOutcome]
    broken: dict[str, list[int]]
    result: ExpectationSuiteValidationResult


def run_suite(name: str, frame: pd.DataFrame, rules: Sequence[Rule]) -> SuiteRun:
    """Validate ``frame`` against ``rules``. Its integer column ``row`` is the key.

    Raise ManifestError when GX could not evaluate an expectation: a missing answer is not a pass.
    """
    ready = _frames().get_batch(batch_parameters={"dataframe": frame})
    by_name = {rule.name: rule for rule in rules}
    # Counts cost half as much again, and rows double it. Most rules hold, so only broken ones are run again for them.
    result = ready.validate(build_suite(name, rules), result_format="BOOLEAN_ONLY")
    for answer in result.results:
        if answer.success:
            answer.result |= _counts_of_a_rule_that_holds(frame, by_name[_name(answer)])
    if broke := [by_name[_name(answer)] for answer in result.results if not answer.success]:
        whole = ready.validate(build_suite(name, broke), result_format=RESULT_FORMAT)
        found = {_name(answer): answer for answer in whole.results}
        result.results = [found.get(_name(answer), answer) for answer in result.results]
    outcomes, broken = [], {}
    for answer in result.results:
        rule = by_name[_name(answer)]
        outcomes.append(_outcome(rule, answer))
        if keys := _keys(answer.result.get("unexpected_index_list") or ()):
            broken[rule.name] = keys
    return SuiteRun(outcomes, broken, result)


# unexpected_list is cut at 200 values; the index list is complete.
RESULT_FORMAT: dict[str, Any] = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": [KEY],
    "return_unexpected_index_query": False,
    "partial_unexpected_count": 20,
}


def build_suite(name: str, rules: Sequence[Rule]) -> gx.ExpectationSuite:
    """Return the rules as an expectation suite."""
    suite: gx.ExpectationSuite = import_gx().ExpectationSuite(
        name=name, expectations=[_expectation(rule) for rule in rules]
    )
    return suite


def import_gx() -> Any:
    """Return the library. Its deprecation warnings at import are not ours to fix, so they are hidden.

    Its charts and statistical tests, which no rule of ours uses, are a third of its import.
    """
    with warnings.catch_warnings(), imported_later("altair", "scipy.stats"):
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            import great_expectations
        except ModuleNotFoundError as error:
            if error.name != "great_expectations":
                raise
            raise SettingsError(
                "validating manifests needs great-expectations, which is not installed here: "
                "pip install 'cropline[validation]'"
            ) from None
        import great_expectations.expectations

    return great_expectations


_ours = threading.local()


def _frames() -> BatchDefinition[Any]:
    """Return what takes a whole frame. GX keeps the last frame under the definition's name: each thread has its own."""
    if not hasattr(_ours, "frames"):
        asset = _open_context().data_sources.add_pandas("cropline").add_dataframe_asset("frames")
        _ours.frames = asset.add_batch_definition_whole_dataframe("whole")
    frames: BatchDefinition[Any] = _ours.frames
    return frames


def _open_context() -> EphemeralDataContext:
    library = import_gx()
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    context: EphemeralDataContext = library.get_context(mode="ephemeral", project_config=config)
    return context


def _expectation(rule: Rule) -> Expectation:
    # GX inserts a description into its pages as HTML.
    described = html.escape(rule.description, quote=False)
    arguments: dict[str, Any] = {"column": rule.column, "severity": rule.severity, "description": described}
    if rule.check.kind == "between":
        arguments |= {"min_value": rule.check.low, "max_value": rule.check.high}
    elif rule.check.kind == "one_of":
        arguments["value_set"] = list(rule.check.values)
    return kinds()[rule.check.kind](**arguments, meta={"name": rule.name, "field": rule.field})


def _counts_of_a_rule_that_holds(frame: pd.DataFrame, rule: Rule) -> dict[str, Any]:
    """Return what GX counts in its format BASIC when no value breaks the rule."""
    counts = {"element_count": len(frame), "unexpected_count": 0, "unexpected_percent": 0.0}
    if rule.check.kind in ("null", "not_null"):
        return counts
    return counts | {"missing_count": int(frame[rule.column].isna().sum())}


def _keys(indices: Iterable[dict[str, Any]]) -> list[int]:
    """Return the broken rows' keys. A row without a key is left out; another, critical rule reports it."""
    return [int(key) for index in indices if (key := index[KEY]) == key]


def _name(answer: ExpectationValidationResult) -> str:
    if answer.expectation_config is None:
        raise ManifestError("Great Expectations returned a result without its configuration")
    return str(answer.expectation_config.meta["name"])


def _outcome(rule: Rule, answer: ExpectationValidationResult) -> ExpectationOutcome:
    raised = _exception(answer.exception_info)
    if raised is not None:
        raise ManifestError(f"expectation {rule.name} could not be evaluated: {raised}")
    result = answer.result
    return ExpectationOutcome(
        name=rule.name,
        severity=rule.severity,
        column=None if rule.field == "*" else rule.field,
        evaluated=int(result.get("element_count", 0)) - int(result.get("missing_count") or 0),
        unexpected=int(result.get("unexpected_count", 0)),
        success=bool(answer.success),
        description=rule.description,
    )


def _exception(info: dict[str, Any]) -> str | None:
    """Return the message of an exception. GX keeps it in one dict, or in one dict per metric."""
    for entry in [info, *(value for value in info.values() if isinstance(value, dict))]:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None
