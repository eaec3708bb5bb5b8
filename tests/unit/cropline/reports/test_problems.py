"""What a run says of its troubles, and when nothing came through."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from cropline.core.errors import NothingCameThrough, NotReconciled
from cropline.pipeline.funnel import Funnel
from cropline.reports.problems import check_came_through, problem_lines


def _failed(**reasons: int) -> Funnel:
    failures = [{"reason": name, "detail": f"detail of {name}"} for name in reasons]
    return Funnel(
        batches=1, images=1, failed=sum(reasons.values()), boxes=9, reasons=Counter(reasons), failures=failures
    )


@pytest.mark.parametrize(
    ("funnel", "said"),
    [
        (
            _failed(forbidden_host=784),
            r"all 784 boxes failed; most of them forbidden_host 784: .*CROPLINE_FETCH__ALLOWED",
        ),
        (_failed(http_5xx=3, timeout=2), r"all 5 boxes failed; most of them http_5xx 3"),
        (
            replace(_failed(url_expired=5), stayed=4),
            r"all 5 boxes failed \(4 keep their good crop\); most of them url_",
        ),
        (
            Funnel(landed=2, quarantined=2, broken=Counter(url_present=2), hints={"url_present": "look at CROPLINE_X"}),
            r"all 2 rows are bad; most of them url_present 2: look at CROPLINE_X",
        ),
    ],
)
def test_a_run_of_which_nothing_came_through_says_what_to_look_at(funnel: Funnel, said: str) -> None:
    with pytest.raises(NothingCameThrough, match=said) as caught:
        check_came_through(funnel)
    assert caught.value.__notes__ == problem_lines(funnel)


@pytest.mark.parametrize(
    "funnel",
    [
        Funnel(),
        Funnel(polled=5, repeated=5),
        Funnel(landed=3, superseded=3),
        Funnel(landed=3, valid=1, quarantined=2),
        Funnel(landed=3, quarantined=3, batches=1, images=1, boxes=2, written=1, failed=1),
        Funnel(landed=3, quarantined=3, batches=1, images=1),  # a photo without boxes
        Funnel(batches=1, images=1, boxes=2, skipped=2),
        Funnel(batches=1, images=1, boxes=2, written=1, failed=1),
    ],
)
def test_a_run_with_nothing_to_do_or_of_which_some_came_through_is_well(funnel: Funnel) -> None:
    check_came_through(funnel)


def test_skipped_boxes_are_no_trouble_and_secrets_are_cut_out() -> None:
    funnel = _failed(http_4xx=1)
    funnel.reasons["below_min_side"] = 7
    funnel.failures[0]["detail"] = "403 of https://h/p.jpg?sig=hush"
    (line,) = problem_lines(funnel)
    assert line.startswith("failed: http_4xx 1: 403 of https://h/p.jpg?***")


def test_parts_of_a_run_add_up() -> None:
    whole, one = Funnel(), {"landed": 3, "valid": 1, "superseded": 1, "quarantined": 1, "polled": 3}
    first: dict[str, Any] = {"broken": Counter(a=1), "hints": {"a": "x"}, "manifest": "m1", "warnings": [("k", "1")]}
    whole.add(Funnel(**one, **first))
    whole.add(Funnel(**one, broken=Counter(a=2), docs="d", warnings=[("k", "2")]))
    assert (whole.landed, whole.broken, whole.manifest, whole.docs) == (6, Counter(a=3), "m1", "d")
    assert [message for _, message in whole.warnings] == ["1", "2"]
    whole.reconcile()
    whole.superseded += 1
    with pytest.raises(NotReconciled, match="superseded"):
        whole.reconcile()
