"""What an erasure may be asked for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cropline.erasure.selection import Selection


@pytest.mark.parametrize("asked", [{}, {"images": ["a"], "stores": ["s"]}, {"stores": ["s"], "before": "2026-01-01"}])
def test_an_erasure_without_a_selection_or_with_two_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="exactly one of images, stores and before"):
        Selection.model_validate(asked)
