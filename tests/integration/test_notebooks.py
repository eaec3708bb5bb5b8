"""The notebooks of docs/ run against the simulated cameras, and show pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"
NAMES = ["1-pandas-to-spark", "2-fuguesql", "3-a-model-on-every-crop"]
ON_SPARK = "spark"  # the tag of cells that need a Spark session


def executed(name: str, folder: Path, *, spark: bool) -> list[Any]:
    """Run a notebook in a new kernel and return its cells. An exception in a cell is raised here."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    if not spark:
        notebook.cells = [cell for cell in notebook.cells if ON_SPARK not in cell.metadata.get("tags", [])]
    client = NotebookClient(notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    return list(notebook.cells)


def pictures(cells: list[Any]) -> int:
    """Return how many outputs are pictures of some size."""
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return sum(len(each.get("image/jpeg", "")) > 5_000 for each in data)


def noise(cells: list[Any]) -> list[str]:
    """Return what cells wrote to the standard error."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_without_a_cluster_and_shows_pictures(name: str, tmp_path: Path) -> None:
    cells = executed(name, tmp_path, spark=False)
    asked = sum("cropline.show(" in cell.source for cell in cells)
    assert asked > 0
    assert pictures(cells) == asked
    assert noise(cells) == []


def test_the_stored_notebooks_show_every_picture() -> None:
    for name in NAMES:
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
        asked = sum("cropline.show(" in cell.source for cell in cells)
        assert pictures(cells) == asked, name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_on_spark_too(name: str, tmp_path: Path) -> None:
    cells = executed(name, tmp_path, spark=True)
    assert pictures(cells) == sum("cropline.show(" in cell.source for cell in cells)
