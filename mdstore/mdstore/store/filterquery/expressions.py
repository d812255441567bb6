"""A filter whose names and types are known: what is compiled to SQL.

Expressions are equal when they have the same shape. The values of literals are not part of it, so that a statement
which was compiled for `id = 1` serves `id = 2`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Union

from mdstore.store.filterquery.columns import Relation, Type

Scalar = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is bound to the node: one property, or one of its neighbours."""

    relation: Relation
    key: str
    """The property's name or the neighbour's alias."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the node, or of a row that belongs to it."""

    row: Row | None
    name: str
    type: Type

    @property
    def weight(self) -> int:
        """How much there is to render."""
        return 1

    @property
    def nesting(self) -> int:
        """How deep a parser of SQL gets in it."""
        return 1


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is bound when the statement runs, as parameter number `slot`."""

    type: Type
    slot: int
    value: int | float | str = field(compare=False)

    @property
    def weight(self) -> int:
        """How much there is to render."""
        return 1

    @property
    def nesting(self) -> int:
        """How deep a parser of SQL gets in it."""
        return 1


@dataclass(frozen=True, slots=True)
class Constant:
    """TRUE, FALSE, NULL, or a value that decides the statement's text."""

    type: Type
    value: Scalar

    @property
    def weight(self) -> int:
        """How much there is to render."""
        return 1

    @property
    def nesting(self) -> int:
        """How deep a parser of SQL gets in it."""
        return 1


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function with its operands. `OPERATIONS` of `rendering` says what there is."""

    op: str
    args: tuple["Expression", ...]
    type: Type
    weight: int = field(compare=False)
    nesting: int = field(compare=False)
    """How deep a parser of SQL gets in it: SQLite's has a stack of 100."""


Expression = Union[Column, Literal, Constant, Call]  # noqa: UP007 (a forward reference is in it)

TRUE: Final = Constant(Type.BOOL, True)
FALSE: Final = Constant(Type.BOOL, False)

_REPEATS: Final = {"nullif": 0, "strpos": 0, "abs": 0}
"""Operations that render this operand twice on some database."""

_DEEP: Final = {"case": 9, "case of": 9, "not": 3, "like": 3, "in": 5, "between": 4, "negate": 3}
"""What these add to the depth; functions add 6, operators 3."""


def call(op: str, args: tuple[Expression, ...], type_: Type) -> Call:
    """An operation with its operands."""
    weight = 1 + sum(arg.weight for arg in args)
    if op in _REPEATS:
        weight += 2 * args[_REPEATS[op]].weight
    depth = _DEEP.get(op, 6 if op.isidentifier() else 3)
    if op in ("and", "or"):
        depth = 3 * (len(args) - 1).bit_length()  # they are rendered as pairs of pairs
    return Call(op, args, type_, weight, depth + max(arg.nesting for arg in args))


def walk(expression: Expression) -> Iterator[Expression]:
    """An expression and all inside it."""
    yield expression
    if isinstance(expression, Call):
        for arg in expression.args:
            yield from walk(arg)


def rows_of(expression: Expression) -> tuple[Row, ...]:
    """The distinct rows that an expression speaks of, in the order in which it does."""
    found = (part.row for part in walk(expression) if isinstance(part, Column))
    return tuple(dict.fromkeys(row for row in found if row is not None))
