"""SQL in pieces, for what SQLAlchemy has no expression for, or has one that each database understands differently."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import Boolean

Piece = Any
"""A text, or an element of SQLAlchemy."""


class Fragment(ColumnElement[bool]):
    """Pieces of SQL one after the other: constant texts and bound parameters, never a value in the text."""

    inherit_cache = False
    type = Boolean()

    def __init__(self, *pieces: Piece) -> None:
        """Take texts, which are SQL as they are, and elements, which are rendered."""
        self.pieces = pieces

    def self_group(self, against: Any = None) -> "Fragment":  # noqa: ARG002 (SQLAlchemy's signature)
        """Every fragment has its own parentheses."""
        return self


@compiles(Fragment)
def _fragment(element: Fragment, compiler: SQLCompiler, **kw: Any) -> str:
    return "".join(piece if isinstance(piece, str) else compiler.process(piece, **kw) for piece in element.pieces)


def unplanned(column: ColumnElement[Any]) -> Fragment:
    """A column that SQLite's planner does not begin with: it knows nothing of the values that are compared."""
    return Fragment("+", column)


def listed(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces with commas in between."""
    return [part for piece in pieces for part in (", ", piece)][1:]


def balanced(pieces: Sequence[Piece], operator: str) -> Piece:
    """Operands of an operator that is associative, in pairs of pairs: SQLite nests no deeper than 1,000 expressions."""
    if len(pieces) == 1:
        return pieces[0]
    middle = len(pieces) // 2
    return Fragment("(", balanced(pieces[:middle], operator), operator, balanced(pieces[middle:], operator), ")")
