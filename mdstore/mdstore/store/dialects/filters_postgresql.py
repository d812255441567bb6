"""Filter queries in PostgreSQL's SQL."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam

from mdstore.store.dialects.filters import PICKS, FilterSQL
from mdstore.store.filterquery.columns import Type
from mdstore.store.fragments import Fragment, Piece

_TYPES: Final = {
    Type.INT64: "BIGINT",
    Type.DOUBLE: "DOUBLE PRECISION",
    Type.STRING: "TEXT",
    Type.BOOL: "BOOLEAN",
    Type.NULL: "BIGINT",
}


class PostgreSQLFilters(FilterSQL):
    """It wants to know the type of everything."""

    # Its planner takes minutes for the 20 that a filter may name.
    most_joined = 4

    def text(self, bound: Piece) -> Piece:
        """It would have to guess what a parameter is."""
        return Fragment("CAST(", bound, " AS TEXT)")

    def null(self, of: Type) -> Piece:
        """NULL has a type."""
        return f"CAST(NULL AS {_TYPES[of]})"

    def exact(self, text: Piece) -> Piece:
        """In the order of bytes, which is that of code points."""
        return Fragment("(", text, ' COLLATE "C")')

    def same(self, text: Piece) -> Piece:
        """Every collation that is deterministic compares for equality byte by byte, and so an index serves."""
        return text

    def wide(self, number: Piece) -> Piece:
        """NUMERIC has no end."""
        return Fragment("CAST(", number, " AS NUMERIC)")

    def like(self, text: Piece, pattern: Piece) -> Piece:
        """ILIKE would know the case of more than ASCII."""
        return Fragment("(lower(", text, ' COLLATE "C") LIKE lower(', pattern, " COLLATE \"C\") ESCAPE '\\')")

    def quotient(self, left: Piece, right: Piece) -> Piece:
        """div() of NUMERIC."""
        return Fragment("div(", left, ", NULLIF(", right, ", 0))")

    def in_case(self, function: str, text: Piece) -> Piece:
        """The collation C knows ASCII only."""
        return Fragment(f"{function}(", text, ' COLLATE "C")')

    def trimmed(self, function: str, text: Piece, characters: str) -> Piece:
        """It calls the first of them btrim."""
        name = "btrim" if function == "trim" else function
        return Fragment(f"{name}(", text, ", ", self.text(bindparam(None, characters, unique=True)), ")")

    def position(self, text: Piece, part: Piece) -> Piece:
        """By strpos."""
        return Fragment("strpos(", text, ", ", part, ")")

    def extreme(self, function: str, values: Sequence[Piece], of: Type) -> Piece:
        """Its own skip NULL."""
        value = 'v COLLATE "C"' if of is Type.STRING else "v"
        picked = f"(SELECT CASE WHEN count(v) = count(*) THEN {PICKS[function]}({value}) END FROM (VALUES "  # noqa: S608 (constants)
        rows = [piece for given in values for piece in (", (", given, ")")]
        return Fragment(picked, "(", *rows[1:], ") AS picked(v))")
