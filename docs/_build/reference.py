"""MkDocs hook: writes the reference pages from the code, so that they cannot differ from it."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
from click import Command, Group, Option
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cropline.core.columns import Column

ROOT = Path(__file__).resolve().parents[2]
MADE = "Made from the code by `make docs`.\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, and the pages that lie at the top of the repository."""
    pages = {
        "reference/settings.md": settings_page(),
        "reference/cli.md": cli_page(),
        "reference/python.md": python_page(),
        "reference/tables.md": tables_page(),
        "decisions/index.md": decisions_page(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "]("),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def decisions_page() -> str:
    """The decisions, each with its title."""
    lines = ["# Decisions\n", "Why cropline is built as it is: context, choice, what was measured, what would change it.\n"]
    for path in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        title = path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting: variable, type, default, meaning."""
    from cropline.config.settings import Settings

    parts = [
        "# Settings\n",
        MADE,
        "A setting is an environment variable, a line of a `.env` file, or a key of a TOML file: `CROPLINE_API__URL` is `url` "
        "below `[api]`. Values of lists and maps are JSON in variables. "
        "An unknown name or a wrong value is one line, and nothing starts. Values of type `secret` never appear in logs, "
        "errors or pages.\n",
    ]
    for name, field in Settings.model_fields.items():
        parts += _group(f"CROPLINE_{name.upper()}", field.annotation, field)
    return "\n".join(parts)


def setting_rows() -> Iterator[tuple[str, FieldInfo]]:
    """(variable, field) of every setting."""
    from cropline.config.settings import Settings

    for name, field in Settings.model_fields.items():
        yield from _rows(f"CROPLINE_{name.upper()}", field)


def _rows(variable: str, field: FieldInfo) -> Iterator[tuple[str, FieldInfo]]:
    from cropline.config.sources import SourceSettings

    model = _model(field.annotation)
    if model is None or get_origin(field.annotation) is dict:
        yield variable, field
    if model is not None and model is not SourceSettings:  # its groups are on the page already
        between = "__NAME__" if get_origin(field.annotation) is dict else "__"
        for name, inner in model.model_fields.items():
            yield from _rows(f"{variable}{between}{name.upper()}", inner)


def _model(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model(inner)
        if found is not None:
            return found
    return None


def _group(variable: str, annotation: Any, field: FieldInfo) -> list[str]:
    model = _model(annotation)
    text = inspect.getdoc(model) if model is not None else None
    rows = list(_rows(variable, field))
    title = variable if model is not None else "Others"
    lines = [f"## {title}\n"]
    if text:
        lines.append(text.split("\n\n")[0].replace("\n", " ") + "\n")
    lines += ["| variable | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {_type(row)} | {_default(row)} | {_cell(row.description or '')} |" for name, row in rows]
    return [*lines, ""]


def _type(field: FieldInfo) -> str:
    return _cell(_named(field.annotation))


def _named(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is SecretStr:
        return "secret"
    if annotation is timedelta:
        return "duration (ISO 8601 or seconds)"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, type(int | None)):
        return " or ".join(_named(kind) for kind in inner if kind is not type(None))
    if origin in (tuple, list):
        return f"list of {_named(inner[0])}"
    if origin is dict or "Mapping" in str(origin):
        return "map"
    if origin is typing.Annotated:
        return _named(inner[0])
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr) or value in (None, "", ()):
        return ""
    if isinstance(value, timedelta):
        return f"`{value.total_seconds():,.0f}` s"
    if isinstance(value, BaseModel | dict):
        return ""
    if isinstance(value, bool | list | tuple):
        return f"`{json.dumps(value)}`"
    return f"`{_cell(str(value))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def cli_page() -> str:
    """Every command with its options."""
    import typer

    from cropline.cli import app

    parts = ["# Commands\n", MADE]
    group = typer.main.get_command(app)
    for path, command in _commands("cropline", group):
        parts += [f"## {path}\n", (inspect.cleandoc(command.help or "")) + "\n"]
        context = command.make_context(path, [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"```text\n{path} {usage}\n```\n")
        rows = [
            f"| `{', '.join([*option.opts, *option.secondary_opts])}` | {_cell(_option_help(option))} |"
            for option in command.params
            if "--help" not in option.opts
        ]
        if rows:
            parts += ["| option | meaning |", "|---|---|", *rows, ""]
    return "\n".join(parts)


def _option_help(option: Any) -> str:
    text = getattr(option, "help", None) or ""
    default = option.default
    shown = isinstance(option, Option) and not callable(default) and isinstance(default, str | int | float | Path)
    if shown and not isinstance(default, bool):
        text += f" (default: {default})"
    return text


def _commands(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    if isinstance(command, Group):
        for name, inner in command.commands.items():
            yield from _commands(f"{path} {name}", inner)
    else:
        yield path, command


def python_page() -> str:
    """What `import cropline` offers."""
    import cropline

    parts = ["# Python\n", MADE]
    for name in cropline.__all__:
        thing = getattr(cropline, name)
        parts.append(f"## cropline.{name}\n")
        if callable(thing):
            parts.append(f"```python\ncropline.{name}{_signature(thing)}\n```\n")
        parts.append((inspect.getdoc(thing) or "") + "\n")
    return "\n".join(parts)


def _signature(thing: Any) -> str:
    try:
        return str(inspect.signature(thing)).replace("'", "")
    except (TypeError, ValueError):
        return "(...)"


def tables_page() -> str:
    """Columns of the catalogue, the manifests and the state's tables."""
    from cropline.catalogue import CATALOGUE
    from cropline.core.columns import BOX_COLUMNS, CATALOGUE_COLUMNS, MANIFEST_COLUMNS
    from cropline.core.schemas import BOX, MANIFEST
    from cropline.state.tables import metadata

    parts = ["# Tables and columns\n", MADE]
    parts += [
        "## Catalogue\n",
        "A Delta table at `<storage>/catalogue`, partitioned by `captured_date`. One current row per source, image, "
        "profile and box.\n",
        *_columns(CATALOGUE, CATALOGUE_COLUMNS),
        "## Manifests\n",
        "Parquet files below `<storage>/manifests`. One row per image of one poll.\n",
        *_columns(MANIFEST, MANIFEST_COLUMNS),
        "### boxes\n",
        *_columns(pa.schema(list(BOX)), BOX_COLUMNS),
        "## State database\n",
        "SQL tables of cropline's own. Read them if you like; their columns may change with every version.\n",
        "| table | columns |",
        "|---|---|",
        *(f"| `{name}` | {', '.join(f'`{c.name}`' for c in table.columns)} |" for name, table in metadata.tables.items()),
        "",
    ]
    return "\n".join(parts)


def _columns(schema: pa.Schema, described: dict[str, Column]) -> list[str]:
    return [
        "| column | type | meaning | unit | null | example |",
        "|---|---|---|---|---|---|",
        *(_column(field, described[field.name]) for field in schema),
        "",
    ]


def _column(field: pa.Field, column: Column) -> str:
    cells = (column.meaning, column.unit, column.null or "never", f"`{column.example}`")
    return f"| `{field.name}` | {_cell(str(field.type)[:40])} | {' | '.join(_cell(cell) for cell in cells)} |"
