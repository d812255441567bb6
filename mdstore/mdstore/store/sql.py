"""Statements that are written once, as SQLAlchemy expressions, and run as prepared text on the driver's connection.

Going through SQLAlchemy's execution costs 64-113 µs a row, the driver 2-5: so an expression is compiled once per
dialect to text and the order of its parameters, and never again. What writes many rows is a value that says what is
wanted, `Insert`, `Update` or `Delete`, since there the databases have little in common.
"""

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Table, bindparam, literal
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import Boolean, String

from mdstore.errors import InvalidArgument
from mdstore.store.tables import is_text


@cache
def sqlalchemy_dialect(name: str) -> Dialect:
    """SQLAlchemy's dialect of a database. Imported when it is asked for: each is a MiB or two, and one is needed."""
    match name:
        case "sqlite":
            from sqlalchemy.dialects import sqlite  # noqa: PLC0415

            return sqlite.dialect(paramstyle="qmark")
        case "mysql":
            from sqlalchemy.dialects import mysql  # noqa: PLC0415

            return mysql.dialect(paramstyle="format")
        case "postgresql":
            from mdstore.store.lower_case import postgresql  # noqa: PLC0415

            return postgresql()
    raise AssertionError(name)


def quote(dialect: str, name: str) -> str:
    """A table's or column's name as the dialect's SQL has it."""
    return sqlalchemy_dialect(dialect).identifier_preparer.quote(name)


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
    column, parameter = compiler.process(element.column, **kw), compiler.process(element.parameter, **kw)
    # With the type in the text, the driver may send whatever is the smallest array: the prepared plan is the same.
    return f"{column} = ANY({parameter}::{'TEXT' if is_text(element.column) else 'BIGINT'}[])"


@compiles(OneOf, "mysql")
def _mysql_one_of(element: OneOf, compiler: SQLCompiler, **kw: Any) -> str:
    # The driver writes the list with its parentheses.
    return f"{compiler.process(element.column, **kw)} IN {compiler.process(element.parameter, **kw)}"


class _ByCodePoint(ColumnElement[str]):
    inherit_cache = True
    type = String()

    def __init__(self, column: ColumnElement[Any]) -> None:
        self.column = column


def by_code_point(text: ColumnElement[Any] | str) -> ColumnElement[str]:
    """A text that is compared with another such one by their code points, whatever the database is set to."""
    return _ByCodePoint(literal(text) if isinstance(text, str) else text)


@compiles(_ByCodePoint, "sqlite")
def _sqlite_by_code_point(element: _ByCodePoint, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.column, **kw)


@compiles(_ByCodePoint, "postgresql")
def _postgresql_by_code_point(element: _ByCodePoint, compiler: SQLCompiler, **kw: Any) -> str:
    return f'({compiler.process(element.column, **kw)} COLLATE "C")'


@compiles(_ByCodePoint, "mysql")
def _mysql_by_code_point(element: _ByCodePoint, compiler: SQLCompiler, **kw: Any) -> str:
    # A parameter is in the connection's character set, a column in its own.
    return f"CAST(CONVERT({compiler.process(element.column, **kw)} USING utf8mb4) AS BINARY)"


class Values(tuple[Any, ...]):
    """A list as the parameter of `OneOf`."""

    __slots__ = ()


def values(items: Collection[Any]) -> Values:
    """A list as the parameter of `OneOf`."""
    for item in items:
        if isinstance(item, bytes):
            asked_for(item)
    return Values(items)


def asked_for(item: Any) -> Any:
    """A value of a request as a parameter; raises InvalidArgument for a text that is not UTF-8."""
    if isinstance(item, bytes):
        # Protobuf gives bytes for a proto2 string that is none.
        raise InvalidArgument("a text of the request is not UTF-8")
    return item


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
        dialect=sqlalchemy_dialect(dialect),
        compile_kwargs={"render_postcompile": True},  # `IN (...)` of a list: one parameter each
    )
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return Compiled(str(compiled), tuple(compiled.positiontup or ()), constants)


class Conflict(Enum):
    """What becomes of a row whose key is there."""

    FAIL = "fail"
    KEEP = "keep"
    """What is there stays as it is."""
    REPLACE = "replace"
    """What is there gets the new values."""


@dataclass(frozen=True, eq=False)
class Insert:
    """Insert rows: the values of `columns`."""

    table: Table
    columns: tuple[str, ...]
    conflict: Conflict = Conflict.FAIL

    @property
    def parameters(self) -> tuple[str, ...]:
        """What a row holds."""
        return self.columns

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(column.name for column in self.table.primary_key)

    @property
    def replaced(self) -> tuple[str, ...]:
        """What `Conflict.REPLACE` replaces."""
        return tuple(name for name in self.columns if name not in self.key)

    @cached_property
    def with_id(self) -> "Insert":
        """The same with an id before the other values."""
        return Insert(self.table, ("id", *self.columns), self.conflict)


@dataclass(frozen=True, eq=False)
class Update:
    """Update rows: the new values of `columns`, then those of `key`, which says which row."""

    table: Table
    columns: tuple[str, ...]
    key: tuple[str, ...] = ("id",)

    @property
    def parameters(self) -> tuple[str, ...]:
        """What a row holds."""
        return self.columns + self.key


@dataclass(frozen=True, eq=False)
class Delete:
    """Delete rows: the values of `key`, which says which row."""

    table: Table
    key: tuple[str, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """What a row holds."""
        return self.key


Write = Insert | Update | Delete


def encoded_messages(write: Write, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    """The rows with messages as base64 text, which is how the library writes them to all databases but PostgreSQL."""
    if "proto_value" not in write.parameters:
        return rows
    place = write.parameters.index("proto_value")
    if not any(row[place] is not None for row in rows):
        return rows
    return [
        row if row[place] is None else (*row[:place], base64.b64encode(row[place]).decode("ascii"), *row[place + 1 :])
        for row in rows
    ]
