"""Renders Data Docs: one page per run and the index, as self-contained HTML without scripts.

Great Expectations' own renderers draw the details of each expectation. The page around them is ours, because GX's
loads styles and scripts from seven CDNs and is bare without them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from expectations.docs_style import BASE, INDEX_PAGE, RUN_PAGE

if TYPE_CHECKING:
    from jinja2 import Environment

    from expectations.docs_record import Record
    from expectations.gx import ExpectationOutcome, SuiteRun


def run_page(record: Record, runs: Sequence[SuiteRun], index: str) -> str:
    """Return the page of one run. ``index``: relative URL of the index page."""
    outcomes = [outcome for run in runs for outcome in run.outcomes]
    sections = [(field, _section(runs, field)) for field in _fields(outcomes)]
    page = _of_gx().get_template("run.html")
    broken = sorted((o for o in outcomes if not o.success), key=_by_weight)
    return page.render(record=record, broken=broken, outcomes=outcomes, sections=sections, index=index)


def index_page(records: Sequence[Record]) -> str:
    """Return the index of the kept history. ``records``: newest first."""
    page = _plain().get_template("index.html")
    return page.render(records=records, recent=list(reversed(records[:60])))


@cache
def _of_gx() -> Environment:
    """Return GX's environment with our pages. It is kept with its templates: to compile them takes longer than a page."""
    from great_expectations.render.view.view import DefaultJinjaSectionView

    return _with_our_pages(DefaultJinjaSectionView().env)


@cache
def _plain() -> Environment:
    """Return an environment with our pages alone, for the index. It is kept like the other."""
    from jinja2 import Environment

    return _with_our_pages(Environment(autoescape=True))


def _with_our_pages(environment: Environment) -> Environment:
    from jinja2 import ChoiceLoader, DictLoader

    ours = DictLoader({"base.html": BASE, "run.html": RUN_PAGE, "index.html": INDEX_PAGE})
    environment.loader = ChoiceLoader([ours, *([environment.loader] if environment.loader else [])])
    return environment


def _fields(outcomes: Sequence[ExpectationOutcome]) -> list[str]:
    return list(dict.fromkeys(outcome.column or "manifest" for outcome in outcomes))


def _section(runs: Sequence[SuiteRun], field: str) -> dict[str, Any]:
    """Return one field's expectations as GX renders them, without GX's header (it names the derived column)."""
    from great_expectations.render.renderer.column_section_renderer import ValidationResultsColumnSectionRenderer

    answers = [
        answer
        for run in runs
        for outcome, answer in zip(run.outcomes, run.result.results, strict=True)
        if (outcome.column or "manifest") == field
    ]
    renderer: Any = ValidationResultsColumnSectionRenderer()
    rendered = renderer.render(answers).to_json_dict()
    return {"content_blocks": [_escaped(block) for block in rendered["content_blocks"][1:]]}


def _escaped(block: Any) -> Any:
    """Return the block with its table texts escaped: GX puts unexpected values into its HTML unescaped."""
    if isinstance(block, list):
        return [_escaped(part) for part in block]
    if not isinstance(block, dict):
        return block
    parts = {name: _escaped(part) for name, part in block.items()}
    if "table" in parts:
        parts["table"] = [
            [html.escape(cell) if isinstance(cell, str) else cell for cell in row] for row in parts["table"]
        ]
    return parts


def _by_weight(outcome: ExpectationOutcome) -> tuple[int, int]:
    return (("critical", "warning", "info").index(outcome.severity), -outcome.unexpected)
