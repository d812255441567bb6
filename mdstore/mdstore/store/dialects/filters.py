"""How a database says what filter queries ask, so that a filter means the same on every one.

- `=` and `<` on texts look at every character, in the order of code points: MySQL's collations would not.
- LIKE takes upper and lower case of ASCII for the same, and a backslash takes away the meaning of `%` and `_`.
- Arithmetic of integers does not end at a column's 32 or 64 bits; what divides by zero is NULL.

Operands come and results go as pieces of SQL. What two databases have in common stands here, which is mostly what the
standard says; each has the rest in a module of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

from sqlalchemy import bindparam

from mdstore.store.filterquery.columns import Type
from mdstore.store.fragments import Fragment, Piece, balanced, listed


class FilterSQL(ABC):
    """The filter language in one database's SQL. It has no state; there is one for all databases of a kind."""

    knows_counts: ClassVar[bool] = True
    """Whether the database knows how many rows a condition meets, and begins with what are few by itself."""
    most_joined: ClassVar[int | None] = None
    """Rows of properties and neighbours that it plans together in reasonable time; None when there is no such limit."""
    double: ClassVar[str] = "DOUBLE PRECISION"
    """The type that CAST knows for DOUBLE."""
    string: ClassVar[str] = "TEXT"
    """For STRING."""

    # --- operands

    def text(self, bound: Piece) -> Piece:
        """A text that is a parameter."""
        return bound

    def null(self, of: Type) -> Piece:  # noqa: ARG002 (an interface)
        """NULL of a type."""
        return "NULL"

    @abstractmethod
    def exact(self, text: Piece) -> Piece:
        """A text as its code points, which `<` compares one by one."""

    def same(self, text: Piece) -> Piece:
        """A text that `=` compares character by character."""
        return self.exact(text)

    @abstractmethod
    def wide(self, number: Piece) -> Piece:
        """An integer, for arithmetic that does not end at 32 or 64 bits."""

    def real(self, number: Piece, of: Type) -> Piece:
        """A number as a DOUBLE."""
        return number if of is Type.DOUBLE else Fragment("CAST(", number, f" AS {self.double})")

    # --- conditions

    def text_equals_column(self, column: Piece, text: Piece) -> Piece:
        """Whether a text is what a column holds, so that the column's index serves."""
        return Fragment("(", self.same(column), " = ", self.same(text), ")")

    @abstractmethod
    def like(self, text: Piece, pattern: Piece) -> Piece:
        """Whether a text is like a pattern."""

    # --- numbers

    def absolute(self, number: Piece, of: Type) -> Piece:  # noqa: ARG002 (an interface)
        """The number without its sign; an integer is wide."""
        return Fragment("abs(", number, ")")

    def remainder(self, left: Piece, right: Piece) -> Piece:
        """Of the division of integers, which are wide."""
        return Fragment("mod(", left, ", NULLIF(", right, ", 0))")

    @abstractmethod
    def quotient(self, left: Piece, right: Piece) -> Piece:
        """Of the division of integers, which are wide, towards zero."""

    # --- texts

    def in_case(self, function: str, text: Piece) -> Piece:
        """The text with its letters of ASCII in "lower" or "upper" case."""
        return Fragment(f"{function}(", text, ")")

    def length(self, text: Piece) -> Piece:
        """How many characters there are."""
        return Fragment("char_length(", text, ")")

    def head(self, text: Piece, count: int) -> Piece:
        """The first characters; a text that is shorter stays whole."""
        return Fragment("left(", text, f", {count})")

    def tail(self, text: Piece, count: int) -> Piece:
        """The last characters; a text that is shorter stays whole."""
        return Fragment("right(", text, f", {count})")

    def trimmed(self, function: str, text: Piece, characters: str) -> Piece:
        """The text without any of the characters at its ends ("trim"), beginning ("ltrim") or end ("rtrim")."""
        return Fragment(f"{function}(", text, ", ", bindparam(None, characters, unique=True), ")")

    @abstractmethod
    def position(self, text: Piece, part: Piece) -> Piece:
        """Where a text has a part of it first, from 1; 0 for nowhere."""

    def joined(self, texts: Sequence[Piece]) -> Piece:
        """The texts one after the other; NULL if one is."""
        return balanced(texts, " || ")

    def as_string(self, value: Piece) -> Piece:
        """A number or text as a text."""
        return Fragment("CAST(", value, f" AS {self.string})")

    # --- of any type

    def null_if(self, left: Piece, right: Piece, of: Type) -> Piece:  # noqa: ARG002 (an interface)
        """NULL if both are the same, else the first."""
        return Fragment("NULLIF(", left, ", ", right, ")")

    def extreme(self, function: str, values: Sequence[Piece], of: Type) -> Piece:  # noqa: ARG002 (an interface)
        """The "greatest" or "least" of some values; NULL if one is."""
        return Fragment(f"{function}(", *listed(values), ")")


PICKS: Final = {"greatest": "max", "least": "min"}
"""What picks one of many in SQL."""
