"""The reason codes: the documented table matches the code, and failures survive pickling."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from cropline.core.failures import FAILURES, Failure, PhotoFailure, is_transient

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "failures.md"
SOURCES = [*sorted((ROOT / "fugue_jobs").rglob("*.py")), ROOT / "cropline" / "core" / "failures.py"]


def row(failure: Failure) -> str:
    kind = "transient" if failure.transient else "permanent"
    return f"| `{failure.code}` | {kind} | {failure.meaning} | {failure.remedy} |"


def test_the_page_holds_the_table_of_the_code() -> None:
    table = PAGE.read_text(encoding="utf-8").split("| code | kind | meaning | what to do |\n", 1)[1].split("\n\n", 1)[0]
    written = [line for line in table.splitlines() if line.startswith("| `")]
    wanted = [row(failure) for failure in FAILURES.values()]
    assert written == wanted, "make the table in docs/failures.md say:\n" + "\n".join(wanted)


def test_codes_fit_a_column_and_texts_a_table() -> None:
    for code, failure in FAILURES.items():
        assert code == failure.code
        assert re.fullmatch(r"[a-z][a-z0-9_]{2,30}", code)
        for text in (failure.meaning, failure.remedy):
            assert text
            assert not re.search(r"[|\n]", text)
            assert not text.endswith(".")


def raised_codes() -> set[str]:
    """Every literal first argument of PhotoFailure(...) in the sources."""
    calls = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    firsts = (
        node.args[0]
        for node in calls
        if isinstance(node, ast.Call) and "PhotoFailure" in ast.unparse(node.func) and node.args
    )
    return {str(first.value) for first in firsts if isinstance(first, ast.Constant)}


def test_no_source_raises_a_code_that_is_not_in_the_table() -> None:
    codes = raised_codes()
    assert codes
    assert codes <= FAILURES.keys()


def test_every_code_of_the_table_is_told_by_some_source() -> None:
    sources = [path for path in SOURCES if path.name != "failures.py"]
    texts = {
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert FAILURES.keys() <= texts, "what is never told is a row that only misleads"


def test_an_unknown_code_is_refused_at_once() -> None:
    with pytest.raises(KeyError):
        PhotoFailure("no_such_code", "")
    with pytest.raises(KeyError):
        is_transient("no_such_code")


@pytest.mark.parametrize(("code", "transient"), [("http_429", True), ("http_404", False), ("forbidden_address", False)])
def test_a_code_says_whether_it_is_tried_again(code: str, transient: bool) -> None:
    assert is_transient(code) is transient


def test_a_failure_comes_back_whole_from_another_process() -> None:
    sent = PhotoFailure("http_429", "https://camera.example:443 answered 429", retry_after_s=7)
    came = pickle.loads(pickle.dumps(sent))
    assert (came.code, came.detail, came.retry_after_s, str(came)) == (sent.code, sent.detail, 7, str(sent))
