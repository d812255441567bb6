"""`docs/settings.md` against the code: every setting and every flag has its row, and no row is about nothing."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import typer.main
from pydantic_settings import BaseSettings

from mdstore.cli import app
from mdstore.steps.settings import VARIABLES

PACKAGES = ("mdstore", "mdstore_lineage", "mdstore_writer", "mdstore_graphql")
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


class Row(NamedTuple):
    """A line of the table. `flags`: each as `command --flag`."""

    variable: str
    flags: tuple[str, ...]
    default: str
    meaning: str


def rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        if not line.startswith("|") or line.startswith(("| Variable", "| ---")):
            continue
        variable, flags, default, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        yield Row(variable.strip("`"), tuple(flag.strip("`") for flag in flags.split("<br>") if flag), default, meaning)


def said(text: str) -> str:
    """As it stands in a cell of the table."""
    return " ".join(text.split()).replace("|", "\\|")


def settings_classes() -> Iterator[type[BaseSettings]]:
    for package in PACKAGES:
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for value in vars(module).values():
                if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == found.name:
                    yield value


def settings() -> Iterator[Row]:
    """Every field of every settings class, without flags."""
    for cls in settings_classes():
        for name, field in cls.model_fields.items():
            default = field.default.value if isinstance(field.default, Enum) else field.default
            prefix = cls.model_config["env_prefix"]
            assert field.description, f"{cls.__name__}.{name} has no docstring"
            yield Row(f"{prefix}{name}".upper(), (), shown(default), said(field.description))

    for variable in VARIABLES:
        yield Row(variable.name, (), f"`{variable.default}`" if variable.default else "", said(variable.meaning))


def shown(default: Any) -> str:
    return "" if default is None or default == "" or default is False or callable(default) else f"`{default}`"


def options() -> Iterator[tuple[str, Any]]:
    """Every command's options, as `mdstore serve` and typer's parameter."""

    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        for name, member in getattr(command, "commands", {}).items():
            yield from walk(f"{path} {name}", member)
        if not hasattr(command, "commands"):
            for option in command.params:
                if option.param_type_name == "option" and option.name != "help":
                    yield path, option

    yield from walk("mdstore", typer.main.get_command(app.application(None, everything=True)))


def test_every_setting_has_its_row() -> None:
    written = [row._replace(flags=()) for row in rows()]
    for wanted in settings():
        assert written.count(wanted) == 1, f"docs/settings.md should have once: {wanted}"


def test_every_flag_is_named_in_one_row_beside_its_variable() -> None:
    named = [(flag, row) for row in rows() for flag in row.flags]
    for path, option in options():
        wanted = f"{path} {option.opts[-1]}"
        found = [row for flag, row in named if flag == wanted]
        assert len(found) == 1, f"docs/settings.md should name {wanted} in one row, and does in {len(found)}"
        if option.envvar:
            assert found[0].variable == option.envvar


def test_no_row_is_about_nothing() -> None:
    flags = {f"{path} {option.opts[-1]}" for path, option in options()}
    variables = {row.variable for row in settings()} | {str(option.envvar) for _, option in options()}
    for row in rows():
        assert not set(row.flags) - flags, f"no such flag: {row}"
        assert row.flags or row.variable, f"neither flag nor variable: {row}"
        assert not row.variable or row.variable in variables, f"no such variable: {row}"


def test_the_settings_of_every_member_are_found() -> None:
    assert {cls.__module__.split(".")[0] for cls in settings_classes()} >= {"mdstore", "mdstore_graphql"}
    assert {path for path, _ in options()} >= {"mdstore up", "mdstore serve", "mdstore writer replay"}


def test_steps_read_the_variables_that_they_name() -> None:
    folder = Path(importlib.import_module("mdstore.steps").__path__[0])
    code = "".join(file.read_text() for file in folder.glob("*.py") if file.name != "settings.py")

    # Where it is read and not only spoken of.
    read = set(re.findall(r"""(?:get\(|_first\(environment, )"(MDSTORE_\w+)""", code))
    assert read == {variable.name for variable in VARIABLES}
