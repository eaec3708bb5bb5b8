"""The documentation: complete, built without a warning, and true where code can tell."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = spec_from_file_location("reference", ROOT / "docs" / "_build" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_has_a_meaning_in_the_reference(reference: ModuleType) -> None:
    rows = dict(reference.setting_rows())
    assert "CROPLINE_API__URL" in rows
    assert [name for name, field in rows.items() if not field.description] == []


def test_every_command_and_option_has_help(reference: ModuleType) -> None:
    import typer

    from cropline.cli import app

    silent = [
        f"{path} {option.name}"
        for path, command in reference._commands("cropline", typer.main.get_command(app))
        for option in command.params
        if not getattr(option, "help", None)
    ]
    assert silent == []


def test_every_column_of_a_table_has_a_meaning() -> None:
    from cropline.catalogue import CATALOGUE
    from cropline.core.columns import BOX_COLUMNS, CATALOGUE_COLUMNS, MANIFEST_COLUMNS
    from cropline.core.schemas import BOX, MANIFEST

    assert list(CATALOGUE_COLUMNS) == CATALOGUE.names
    assert list(MANIFEST_COLUMNS) == MANIFEST.names
    assert list(BOX_COLUMNS) == [field.name for field in BOX]


def test_the_site_builds_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)  # strict: a dead link or a page that nothing names raises Abort
    page = (tmp_path / "site" / "reference" / "settings.html").read_text(encoding="utf-8")
    assert "CROPLINE_API__URL" in page
