"""From expressions to SQL, with one meaning on every database.

An expression becomes a `Fragment`: constant pieces of text and bound parameters, never a value in the text. Where the
databases differ, the pieces do:

- `=` and `<` on texts look at every character, in the order of code points: MySQL's collations would not.
- LIKE takes upper and lower case of ASCII for the same, and a backslash takes away the meaning of `%` and `_`.
- Arithmetic of integers does not end at a column's 32 or 64 bits; what divides by zero is NULL.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import Boolean

from mdstore.store.filterquery.columns import Type
from mdstore.store.filterquery.expressions import Call, Column, Constant, Expression, Literal

Piece = Any
"""A text, or an element of SQLAlchemy."""


class Fragment(ColumnElement[bool]):
    """Pieces of SQL one after the other."""

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


def parameter(slot: int) -> str:
    """The name of a literal's parameter."""
    return f"filter_{slot}"


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders expressions for one database, given what columns are there."""

    dialect: str
    column: Callable[[Column], Piece]
    """The SQL of a column."""
    type_is: Callable[[Column, Fragment], Piece]
    """(a column `type`, ` = ..` or ` IN (..)`) -> the condition that the type has such a name."""

    def render(self, expression: Expression) -> Piece:
        """The SQL of an expression."""
        match expression:
            case Column():
                return self.column(expression)
            case Literal():
                return self.literal(expression)
            case Constant():
                return self.constant(expression)
            case Call():
                return _OPERATIONS[expression.op](self, expression)

    def literal(self, literal: Literal) -> Piece:
        """A parameter that is bound when the statement runs."""
        bound: BindParameter[Any] = bindparam(parameter(literal.slot))
        # PostgreSQL would have to guess what a parameter is.
        if self.dialect == "postgresql" and literal.type is Type.STRING:
            return Fragment("CAST(", bound, " AS TEXT)")
        return bound

    def constant(self, constant: Constant) -> Piece:
        """What is part of the statement."""
        if constant.value is None:
            if self.dialect == "postgresql":
                return f"CAST(NULL AS {_POSTGRESQL_TYPES[constant.type]})"
            return "NULL"
        if constant.type is Type.BOOL:
            return "TRUE" if constant.value else "FALSE"
        if constant.type is Type.INT64:
            return str(int(constant.value))
        return bindparam(None, constant.value, unique=True)

    def exact(self, expression: Expression) -> Piece:
        """An operand of a comparison: a text as its code points."""
        found = self.render(expression)
        if expression.type is not Type.STRING or self.dialect == "sqlite":
            return found
        if self.dialect == "postgresql":
            return Fragment("(", found, ' COLLATE "C")')
        # A parameter is in the connection's character set, a column in its own.
        return Fragment("CAST(CONVERT(", found, " USING utf8mb4) AS BINARY)")

    def wide(self, expression: Expression) -> Piece:
        """An operand of arithmetic: an integer that does not end at 32 or 64 bits."""
        found = self.render(expression)
        if expression.type is not Type.INT64 or self.dialect == "sqlite":
            return found
        return Fragment("CAST(", found, " AS NUMERIC)" if self.dialect == "postgresql" else " AS DECIMAL(65))")

    def equals(self, left: Expression, sign: str, right: Expression) -> Piece:
        """`=` and `<>`, character by character."""
        if self.dialect == "postgresql":
            # Every collation that is deterministic compares for equality byte by byte, and so an index serves.
            return Fragment("(", self.render(left), f" {sign} ", self.render(right), ")")
        exact = Fragment("(", self.exact(left), f" {sign} ", self.exact(right), ")")
        if self.dialect == "mysql" and sign == "=" and left.type is Type.STRING and isinstance(left, Column):
            # The collation's comparison finds by the index what the exact one then looks at.
            return Fragment("(", self.render(left), " = ", self.render(right), " AND ", exact, ")")
        return exact


_POSTGRESQL_TYPES: Final = {
    Type.INT64: "BIGINT",
    Type.DOUBLE: "DOUBLE PRECISION",
    Type.STRING: "TEXT",
    Type.BOOL: "BOOLEAN",
    Type.NULL: "BIGINT",
}


def is_type_name(expression: Expression) -> bool:
    """Whether it is a column `type`, which is kept in another table."""
    return isinstance(expression, Column) and expression.name == "type" and expression.type is Type.STRING


def _joined(renderer: Renderer, args: Sequence[Expression], separator: str) -> list[Piece]:
    pieces: list[Piece] = []
    for number, arg in enumerate(args):
        if number:
            pieces.append(separator)
        pieces.append(renderer.render(arg))
    return pieces


def balanced(pieces: Sequence[Piece], operator: str) -> Piece:
    """Operands of an operator that is associative, in pairs of pairs: SQLite nests no deeper than 1,000 expressions."""
    if len(pieces) == 1:
        return pieces[0]
    middle = len(pieces) // 2
    return Fragment("(", balanced(pieces[:middle], operator), operator, balanced(pieces[middle:], operator), ")")


def _connective(renderer: Renderer, call: Call) -> Piece:
    return balanced([renderer.render(arg) for arg in call.args], f" {call.op.upper()} ")


def _not(renderer: Renderer, call: Call) -> Piece:
    return Fragment("(NOT ", renderer.render(call.args[0]), ")")


def _equality(renderer: Renderer, call: Call) -> Piece:
    left, right = call.args
    if is_type_name(left) and isinstance(left, Column) and isinstance(right, Literal):
        found = renderer.type_is(left, _exact_name(renderer, [right]))
        return found if call.op == "=" else Fragment("(NOT ", found, ")")
    return renderer.equals(left, "=" if call.op == "=" else "<>", right)


def _exact_name(renderer: Renderer, names: Sequence[Expression]) -> Fragment:
    pieces: list[Piece] = []
    for number, name in enumerate(names):
        pieces += [", " if number else "", renderer.exact(name)]
    return Fragment(" IN (", *pieces, ")")


def _order(renderer: Renderer, call: Call) -> Piece:
    left, right = call.args
    return Fragment("(", renderer.exact(left), f" {call.op} ", renderer.exact(right), ")")


def _in(renderer: Renderer, call: Call) -> Piece:
    left, *items = call.args
    if is_type_name(left) and isinstance(left, Column) and all(isinstance(item, Literal) for item in items):
        return renderer.type_is(left, _exact_name(renderer, items))
    render = renderer.render if renderer.dialect == "postgresql" else renderer.exact
    pieces: list[Piece] = []
    for number, item in enumerate(items):
        pieces += [", " if number else "", render(item)]
    return Fragment("(", render(left), " IN (", *pieces, "))")


def _between(renderer: Renderer, call: Call) -> Piece:
    value, low, high = (renderer.exact(arg) for arg in call.args)
    return Fragment("(", value, " BETWEEN ", low, " AND ", high, ")")


def _like(renderer: Renderer, call: Call) -> Piece:
    text, pattern = (renderer.render(arg) for arg in call.args)
    match renderer.dialect:
        case "postgresql":
            return Fragment("(lower(", text, ' COLLATE "C") LIKE lower(', pattern, " COLLATE \"C\") ESCAPE '\\')")
        case "mysql":
            # Whatever the column's collation takes for the same.
            return Fragment("(lower(", text, ") LIKE lower(", pattern, ") ESCAPE '\\\\')")
        case _:
            return Fragment("(", text, " LIKE ", pattern, " ESCAPE '\\')")


def _is_null(renderer: Renderer, call: Call) -> Piece:
    return Fragment("(", renderer.render(call.args[0]), " IS NULL)")


def _is_truth(renderer: Renderer, call: Call) -> Piece:
    return Fragment("(", renderer.render(call.args[0]), f" {call.op.upper()})")


def _arithmetic(renderer: Renderer, call: Call) -> Piece:
    left, right = (renderer.wide(arg) for arg in call.args)
    return Fragment("(", left, f" {call.op} ", right, ")")


def _as_double(renderer: Renderer, expression: Expression) -> Piece:
    found = renderer.render(expression)
    if expression.type is Type.DOUBLE:
        return found
    return Fragment("CAST(", found, f" AS {'REAL' if renderer.dialect == 'sqlite' else 'DOUBLE PRECISION'})")


def _divide(renderer: Renderer, call: Call) -> Piece:
    left, right = call.args
    if renderer.dialect == "mysql":
        return Fragment("((", renderer.wide(left), " * 1e0) / NULLIF(", renderer.wide(right), ", 0))")
    return Fragment("(", _as_double(renderer, left), " / NULLIF(", _as_double(renderer, right), ", 0))")


def _negate(renderer: Renderer, call: Call) -> Piece:
    return Fragment("(- ", renderer.wide(call.args[0]), ")")


def _abs(renderer: Renderer, call: Call) -> Piece:
    found = renderer.wide(call.args[0])
    if renderer.dialect == "sqlite" and call.type is Type.INT64:
        # Its abs() fails for the smallest integer.
        return Fragment("(CASE WHEN ", found, " < 0 THEN - ", found, " ELSE ", found, " END)")
    return Fragment("abs(", found, ")")


def _function(name: str) -> Callable[[Renderer, Call], Piece]:
    def render(renderer: Renderer, call: Call) -> Piece:
        return Fragment(f"{name}(", *_joined(renderer, call.args, ", "), ")")

    return render


def _ascii_case(renderer: Renderer, call: Call) -> Piece:
    collation = ' COLLATE "C"' if renderer.dialect == "postgresql" else ""
    return Fragment(f"{call.op}(", renderer.render(call.args[0]), f"{collation})")


def _length(renderer: Renderer, call: Call) -> Piece:
    return Fragment("length(" if renderer.dialect == "sqlite" else "char_length(", renderer.render(call.args[0]), ")")


def _substr(renderer: Renderer, call: Call) -> Piece:
    text, position, *length = call.args
    assert isinstance(position, Constant)
    assert isinstance(position.value, int)
    found: Piece = renderer.render(text)
    start = position.value
    if start < 0:
        # From the end; a text that is shorter stays whole.
        tail = ("substr(", f", {start})") if renderer.dialect == "sqlite" else ("right(", f", {-start})")
        found, start = Fragment(tail[0], found, tail[1]), 1
    if length:
        assert isinstance(length[0], Constant)
        assert isinstance(length[0].value, int)
        return Fragment("substr(", found, f", {max(start, 1)}, {max(length[0].value, 0)})")
    return found if start in (0, 1) else Fragment("substr(", found, f", {start})")


_SIDES: Final = {"trim": "BOTH", "ltrim": "LEADING", "rtrim": "TRAILING"}


def _trim(renderer: Renderer, call: Call) -> Piece:
    text, characters = call.args
    assert isinstance(characters, Constant)
    found = renderer.render(text)
    if not characters.value:
        return found
    match renderer.dialect:
        case "mysql":
            return _mysql_trim(call.op, found, str(characters.value))
        case "postgresql":
            name = "btrim" if call.op == "trim" else call.op
            bound = Fragment("CAST(", bindparam(None, characters.value, unique=True), " AS TEXT)")
            return Fragment(f"{name}(", found, ", ", bound, ")")
        case _:
            return Fragment(f"{call.op}(", found, ", ", bindparam(None, characters.value, unique=True), ")")


def _mysql_trim(op: str, found: Piece, characters: str) -> Piece:
    if len(characters) == 1:
        return Fragment(f"TRIM({_SIDES[op]} ", bindparam(None, characters, unique=True), " FROM ", found, ")")
    # Its TRIM takes away a text, not characters.
    any_of = "[" + re.sub(r"([\W_])", r"\\\1", characters) + "]+"
    ends = {"trim": f"(?-i)^{any_of}|{any_of}$", "ltrim": f"(?-i)^{any_of}", "rtrim": f"(?-i){any_of}$"}
    return Fragment("REGEXP_REPLACE(", found, ", ", bindparam(None, ends[op], unique=True), ", '')")


def _affix(renderer: Renderer, call: Call) -> Piece:
    text, affix, length = call.args
    assert isinstance(length, Constant)
    count = int(length.value or 0)
    if renderer.dialect == "sqlite":
        part = f", 1, {count})" if call.op == "starts_with" else f", -{count})" if count else ", 1, 0)"
        found: Piece = Fragment("substr(", renderer.render(text), part)
    else:
        found = Fragment("left(" if call.op == "starts_with" else "right(", renderer.render(text), f", {count})")
    if renderer.dialect == "mysql":
        return Fragment("(CAST(", found, " AS BINARY) = CAST(", renderer.render(affix), " AS BINARY))")
    return Fragment("(", found, " = ", renderer.render(affix), ")")


def _strpos(renderer: Renderer, call: Call) -> Piece:
    text, part = (renderer.render(arg) for arg in call.args)
    match renderer.dialect:
        case "postgresql":
            return Fragment("strpos(", text, ", ", part, ")")
        case "mysql":
            # SUBSTRING_INDEX looks at every character and counts characters; LOCATE on bytes says whether it is there.
            found = Fragment("LOCATE(CAST(", part, " AS BINARY), CAST(", text, " AS BINARY))")
            place = Fragment("CHAR_LENGTH(SUBSTRING_INDEX(", text, ", ", part, ", 1)) + 1")
            return Fragment("(CASE ", found, " WHEN 0 THEN 0 WHEN NULL THEN NULL ELSE ", place, " END)")
        case _:
            return Fragment("instr(", text, ", ", part, ")")


def _concat(renderer: Renderer, call: Call) -> Piece:
    if renderer.dialect == "mysql":
        return Fragment("concat(", *_joined(renderer, call.args, ", "), ")")
    return balanced([renderer.render(arg) for arg in call.args], " || ")


def _nullif(renderer: Renderer, call: Call) -> Piece:
    left, right = call.args
    if renderer.dialect == "mysql" and left.type is Type.STRING:
        same = renderer.equals(left, "=", right)
        return Fragment("(CASE WHEN ", same, " THEN NULL ELSE ", renderer.render(left), " END)")
    return Fragment("NULLIF(", renderer.render(left), ", ", renderer.render(right), ")")


def _extreme(renderer: Renderer, call: Call) -> Piece:
    if renderer.dialect == "mysql" and call.type is Type.STRING:
        exact = [renderer.exact(arg) for arg in call.args]
        pieces = [piece for item in exact for piece in (", ", item)][1:]
        return Fragment(f"CONVERT({call.op}(", *pieces, ") USING utf8mb4)")
    if renderer.dialect == "postgresql":
        # Its own skip NULL.
        pick = "max" if call.op == "greatest" else "min"
        value = 'v COLLATE "C"' if call.type is Type.STRING else "v"
        rows = [piece for arg in call.args for piece in (", (", renderer.render(arg), ")")]
        rows[0] = "("
        return Fragment(
            f"(SELECT CASE WHEN count(v) = count(*) THEN {pick}({value}) END FROM (VALUES ",  # noqa: S608 (constants)
            *rows,
            ") AS picked(v))",
        )
    name = call.op
    if renderer.dialect == "sqlite":
        name = "max" if call.op == "greatest" else "min"
    return Fragment(f"{name}(", *_joined(renderer, call.args, ", "), ")")


def _mod(renderer: Renderer, call: Call) -> Piece:
    left, right = (renderer.wide(arg) for arg in call.args)
    if renderer.dialect == "sqlite":
        return Fragment("(", left, " % NULLIF(", right, ", 0))")
    return Fragment("mod(", left, ", NULLIF(", right, ", 0))")


def _div(renderer: Renderer, call: Call) -> Piece:
    left, right = (renderer.wide(arg) for arg in call.args)
    match renderer.dialect:
        case "postgresql":
            return Fragment("div(", left, ", NULLIF(", right, ", 0))")
        case "mysql":
            return Fragment("(", left, " DIV NULLIF(", right, ", 0))")
        case _:
            return Fragment("CAST((", left, " / NULLIF(", right, ", 0)) AS INTEGER)")


def _to_double(renderer: Renderer, call: Call) -> Piece:
    if renderer.dialect == "mysql":
        return Fragment("(", renderer.wide(call.args[0]), " * 1e0)")
    return _as_double(renderer, call.args[0])


def _to_string(renderer: Renderer, call: Call) -> Piece:
    return Fragment("CAST(", renderer.render(call.args[0]), f" AS {'CHAR' if renderer.dialect == 'mysql' else 'TEXT'})")


def _case(renderer: Renderer, call: Call) -> Piece:
    *cases, otherwise = call.args
    return Fragment("(CASE", *_whens(cases, renderer.render, renderer.render), *_else(renderer, otherwise))


def _case_of(renderer: Renderer, call: Call) -> Piece:
    operand, *cases, otherwise = call.args
    compared = renderer.render if renderer.dialect == "postgresql" else renderer.exact
    return Fragment("(CASE ", compared(operand), *_whens(cases, compared, renderer.render), *_else(renderer, otherwise))


def _whens(cases: Sequence[Expression], when: Callable[..., Piece], then: Callable[..., Piece]) -> list[Piece]:
    pieces: list[Piece] = []
    for case, value in zip(cases[::2], cases[1::2], strict=True):
        pieces += [" WHEN ", when(case), " THEN ", then(value)]
    return pieces


def _else(renderer: Renderer, otherwise: Expression) -> tuple[Piece, ...]:
    return " ELSE ", renderer.render(otherwise), " END)"


_OPERATIONS: Final[Mapping[str, Callable[[Renderer, Call], Piece]]] = {
    "and": _connective,
    "or": _connective,
    "not": _not,
    "=": _equality,
    "!=": _equality,
    "<": _order,
    "<=": _order,
    ">": _order,
    ">=": _order,
    "in": _in,
    "between": _between,
    "like": _like,
    "is null": _is_null,
    "is true": _is_truth,
    "is false": _is_truth,
    "+": _arithmetic,
    "-": _arithmetic,
    "*": _arithmetic,
    "/": _divide,
    "negate": _negate,
    "abs": _abs,
    "lower": _ascii_case,
    "upper": _ascii_case,
    "length": _length,
    "substr": _substr,
    "trim": _trim,
    "ltrim": _trim,
    "rtrim": _trim,
    "replace": _function("replace"),
    "concat": _concat,
    "starts_with": _affix,
    "ends_with": _affix,
    "strpos": _strpos,
    "coalesce": _function("coalesce"),
    "nullif": _nullif,
    "greatest": _extreme,
    "least": _extreme,
    "mod": _mod,
    "div": _div,
    "to DOUBLE": _to_double,
    "to STRING": _to_string,
    "case": _case,
    "case of": _case_of,
}
