"""Steps of a profile: how a function is named."""

from importlib import metadata
from importlib.metadata import EntryPoint

import pytest

from cropline.config import named_function


def test_a_step_is_found_by_an_entry_point_of_the_group_cropline_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [EntryPoint("blur", "my_shop.faces:blur", "cropline.steps")]
    monkeypatch.setattr(
        metadata,
        "entry_points",
        lambda *, group, name: [point for point in installed if (point.group, point.name) == (group, name)],
    )
    assert named_function.target_of("blur") == "my_shop.faces:blur"
    with pytest.raises(ValueError, match=r"'sharpen' is neither module:name nor an entry point cropline\.steps$"):
        named_function.target_of("sharpen")
