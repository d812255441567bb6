"""Statements that are written once as SQLAlchemy expressions and run as prepared text on the driver's connection.

Going through SQLAlchemy's execution costs 64-113 µs a row, the driver 2-5: so an expression is compiled once per
dialect to text and the order of its parameters, and never again.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, bindparam
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import Boolean

from mdstore.errors import InvalidArgument

DIALECTS: Final[dict[str, Dialect]] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": postgresql.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]  # SQLAlchemy's gap
    "mysql": mysql.dialect(paramstyle="format"),
}


class OneOf(ColumnElement[bool]):
    """`column` is one of the values in one parameter: whatever their number, the text, and so the plan, is the same."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: ColumnElement[Any], parameter: str) -> None:
        """Compare `column` with the list that is bound as `parameter`; bind it through `values`."""
        self.column = column
        self.parameter: BindParameter[Any] = bindparam(parameter)

    def self_group(self, against: Any = None) -> "OneOf":  # noqa: ARG002 (SQLAlchemy's signature)
        """As it is: what SQLAlchemy would write around a condition, ` = 1`, keeps SQLite from using any index."""
        return self


@compiles(OneOf, "sqlite")
def _sqlite_one_of(element: OneOf, compiler: SQLCompiler, **kw: Any) -> str:
    column, parameter = compiler.process(element.column, **kw), compiler.process(element.parameter, **kw)
    return f"{column} IN (SELECT value FROM json_each({parameter}))"  # noqa: S608 (compiled SQL, values are bound)


@compiles(OneOf, "postgresql")
def _postgresql_one_of(element: OneOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"{compiler.process(element.column, **kw)} = ANY({compiler.process(element.parameter, **kw)})"


def values(items: Collection[Any]) -> str:
    """A list as the parameter of `OneOf`: on SQLite, JSON text."""
    try:
        text = json.dumps(list(items), separators=(",", ":"))
    except TypeError as error:
        # Protobuf gives bytes for a proto2 string that is none.
        raise InvalidArgument("a text of the request is not UTF-8") from error
    if "\\u0000" not in text:
        return text
    # SQLite's JSON cuts a text off at a NUL, and would find what is called like the rest. Nothing stored has one.
    return json.dumps([item for item in items if not (isinstance(item, str) and "\0" in item)])


class Statement:
    """One statement, compiled at its first use in a dialect."""

    def __init__(self, make: Callable[[], Executable]) -> None:
        """Take a function that makes the expression: it is called at first use, not at import."""
        self._make = make
        self._compiled: dict[str, Compiled] = {}

    def on(self, dialect: str) -> "Compiled":
        """The statement in a dialect."""
        found = self._compiled.get(dialect)
        if found is None:
            found = self._compiled[dialect] = compile_text(self._make(), dialect)
        return found


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as a driver takes it."""

    text: str
    order: Sequence[str]
    """The names of its parameters."""
    constants: Mapping[str, Any]
    """The values of those that the expression itself holds."""

    def arguments(self, parameters: Mapping[str, Any]) -> list[Any]:
        """The values of the parameters in order."""
        if self.constants:
            parameters = {**self.constants, **parameters}
        return [parameters[name] for name in self.order]


def compile_text(expression: Executable, dialect: str) -> Compiled:
    """Compile an expression."""
    compiled = expression.compile(  # type: ignore[attr-defined]  # every Executable has it
        dialect=DIALECTS[dialect],
        compile_kwargs={"render_postcompile": True},  # `IN (...)` of a list: one parameter each
    )
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return Compiled(str(compiled), tuple(compiled.positiontup or ()), constants)
