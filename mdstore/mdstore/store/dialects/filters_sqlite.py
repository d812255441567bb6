"""Filter queries in SQLite's SQL, which compares texts byte by byte by itself."""

from collections.abc import Sequence

from mdstore.store.dialects.filters import PICKS, FilterSQL
from mdstore.store.filterquery.columns import Type
from mdstore.store.fragments import Fragment, Piece, listed


class SQLiteFilters(FilterSQL):
    """It knows how many rows there are only after ANALYZE, which would make walks along events slow."""

    knows_counts = False
    double = "REAL"

    def exact(self, text: Piece) -> Piece:
        """It is compared byte by byte as it is."""
        return text

    def wide(self, number: Piece) -> Piece:
        """All integers have 64 bits; what leaves them goes on as a double."""
        return number

    def like(self, text: Piece, pattern: Piece) -> Piece:
        """LIKE takes the case of ASCII for the same."""
        return Fragment("(", text, " LIKE ", pattern, " ESCAPE '\\')")

    def absolute(self, number: Piece, of: Type) -> Piece:
        """Its abs() fails for the smallest integer."""
        if of is not Type.INT64:
            return super().absolute(number, of)
        return Fragment("(CASE WHEN ", number, " < 0 THEN - ", number, " ELSE ", number, " END)")

    def remainder(self, left: Piece, right: Piece) -> Piece:
        """With its operator."""
        return Fragment("(", left, " % NULLIF(", right, ", 0))")

    def quotient(self, left: Piece, right: Piece) -> Piece:
        """Its integers divide towards zero."""
        return Fragment("CAST((", left, " / NULLIF(", right, ", 0)) AS INTEGER)")

    def length(self, text: Piece) -> Piece:
        """Characters, of a text."""
        return Fragment("length(", text, ")")

    def head(self, text: Piece, count: int) -> Piece:
        """By substr."""
        return Fragment("substr(", text, f", 1, {count})")

    def tail(self, text: Piece, count: int) -> Piece:
        """By substr, which takes no last 0 characters."""
        return Fragment("substr(", text, f", -{count})" if count else ", 1, 0)")

    def position(self, text: Piece, part: Piece) -> Piece:
        """By instr."""
        return Fragment("instr(", text, ", ", part, ")")

    def extreme(self, function: str, values: Sequence[Piece], of: Type) -> Piece:  # noqa: ARG002 (an interface)
        """Its max and min of several values."""
        return Fragment(f"{PICKS[function]}(", *listed(values), ")")
