"""Filter queries in the SQL of MySQL and MariaDB, whose collations take different texts for the same."""

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam

from mdstore.store.dialects.filters import FilterSQL
from mdstore.store.filterquery.columns import Type
from mdstore.store.fragments import Fragment, Piece, listed

_SIDES: Final = {"trim": "BOTH", "ltrim": "LEADING", "rtrim": "TRAILING"}


class MySQLFilters(FilterSQL):
    """It compares as a column's collation says, unless it sees bytes."""

    string = "CHAR"

    def exact(self, text: Piece) -> Piece:
        """A parameter is in the connection's character set, a column in its own."""
        return Fragment("CAST(CONVERT(", text, " USING utf8mb4) AS BINARY)")

    def wide(self, number: Piece) -> Piece:
        """DECIMAL(65) is the widest there is."""
        return Fragment("CAST(", number, " AS DECIMAL(65))")

    def real(self, number: Piece, of: Type) -> Piece:
        """Not every MySQL casts to DOUBLE; and a parameter with a point in it is a DECIMAL."""
        return Fragment("(", self.wide(number) if of is Type.INT64 else number, " * 1e0)")

    def text_equals_column(self, column: Piece, text: Piece) -> Piece:
        """The collation's comparison finds by the index what the exact one then looks at."""
        return Fragment("(", column, " = ", text, " AND ", super().text_equals_column(column, text), ")")

    def like(self, text: Piece, pattern: Piece) -> Piece:
        """Whatever the column's collation takes for the same."""
        return Fragment("(lower(", text, ") LIKE lower(", pattern, ") ESCAPE '\\\\')")

    def quotient(self, left: Piece, right: Piece) -> Piece:
        """By DIV."""
        return Fragment("(", left, " DIV NULLIF(", right, ", 0))")

    def trimmed(self, function: str, text: Piece, characters: str) -> Piece:
        """Its TRIM takes away a text, not characters."""
        if len(characters) == 1:
            character: Piece = bindparam(None, characters, unique=True)
            return Fragment(f"TRIM({_SIDES[function]} ", character, " FROM ", text, ")")
        any_of = "[" + re.sub(r"([\W_])", r"\\\1", characters) + "]+"
        ends = {"trim": f"(?-i)^{any_of}|{any_of}$", "ltrim": f"(?-i)^{any_of}", "rtrim": f"(?-i){any_of}$"}
        return Fragment("REGEXP_REPLACE(", text, ", ", bindparam(None, ends[function], unique=True), ", '')")

    def position(self, text: Piece, part: Piece) -> Piece:
        """SUBSTRING_INDEX looks at every character and counts characters; LOCATE on bytes says whether it is there."""
        found = Fragment("LOCATE(CAST(", part, " AS BINARY), CAST(", text, " AS BINARY))")
        place = Fragment("CHAR_LENGTH(SUBSTRING_INDEX(", text, ", ", part, ", 1)) + 1")
        return Fragment("(CASE ", found, " WHEN 0 THEN 0 WHEN NULL THEN NULL ELSE ", place, " END)")

    def joined(self, texts: Sequence[Piece]) -> Piece:
        """`||` is OR."""
        return Fragment("concat(", *listed(texts), ")")

    def null_if(self, left: Piece, right: Piece, of: Type) -> Piece:
        """NULLIF compares as the collation does."""
        if of is not Type.STRING:
            return super().null_if(left, right, of)
        return Fragment("(CASE WHEN ", self.same(left), " = ", self.same(right), " THEN NULL ELSE ", left, " END)")

    def extreme(self, function: str, values: Sequence[Piece], of: Type) -> Piece:
        """Of texts, by their code points."""
        if of is not Type.STRING:
            return super().extreme(function, values, of)
        return Fragment(f"CONVERT({function}(", *listed([self.exact(value) for value in values]), ") USING utf8mb4)")
