"""From expressions to SQL: an expression becomes pieces of text and bound parameters, never a value in the text.

What the databases say in different words comes from the dialect (`mdstore.store.dialects.filters`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BindParameter, bindparam

from mdstore.store.dialects.filters import FilterSQL
from mdstore.store.filterquery.columns import Type
from mdstore.store.filterquery.expressions import Call, Column, Constant, Expression, Literal
from mdstore.store.fragments import Fragment, Piece, balanced, listed


def parameter(slot: int) -> str:
    """The name of a literal's parameter."""
    return f"filter_{slot}"


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders expressions for one database, given what columns are there."""

    sql: FilterSQL
    column: Callable[[Column], Piece]
    """The SQL of a column."""
    type_is: Callable[[Column, Sequence[Piece]], Piece]
    """(a column `type`, texts) -> the condition that the type's name is one of them."""

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

    def all(self, expressions: Sequence[Expression]) -> list[Piece]:
        """The SQL of each."""
        return [self.render(expression) for expression in expressions]

    def literal(self, literal: Literal) -> Piece:
        """A parameter that is bound when the statement runs."""
        bound: BindParameter[Any] = bindparam(parameter(literal.slot))
        return self.sql.text(bound) if literal.type is Type.STRING else bound

    def constant(self, constant: Constant) -> Piece:
        """What is part of the statement."""
        if constant.value is None:
            return self.sql.null(constant.type)
        if constant.type is Type.BOOL:
            return "TRUE" if constant.value else "FALSE"
        if constant.type is Type.INT64:
            return str(int(constant.value))
        return bindparam(None, constant.value, unique=True)

    def exact(self, expression: Expression) -> Piece:
        """An operand of `<`: a text as its code points."""
        found = self.render(expression)
        return self.sql.exact(found) if expression.type is Type.STRING else found

    def same(self, expression: Expression) -> Piece:
        """An operand of `=`: a text whose every character counts."""
        found = self.render(expression)
        return self.sql.same(found) if expression.type is Type.STRING else found

    def wide(self, expression: Expression) -> Piece:
        """An operand of arithmetic: an integer that does not end at 32 or 64 bits."""
        found = self.render(expression)
        return self.sql.wide(found) if expression.type is Type.INT64 else found


def is_type_name(expression: Expression) -> bool:
    """Whether it is a column `type`, which is kept in another table."""
    return isinstance(expression, Column) and expression.name == "type" and expression.type is Type.STRING


# --- conditions


def _connective(renderer: Renderer, call: Call) -> Piece:
    return balanced(renderer.all(call.args), f" {call.op.upper()} ")


def _not(renderer: Renderer, call: Call) -> Piece:
    return Fragment("(NOT ", renderer.render(call.args[0]), ")")


def _equality(renderer: Renderer, call: Call) -> Piece:
    left, right = call.args
    if is_type_name(left) and isinstance(left, Column) and isinstance(right, Literal):
        found = renderer.type_is(left, [renderer.same(right)])
        return found if call.op == "=" else Fragment("(NOT ", found, ")")
    if call.op == "=" and left.type is Type.STRING and isinstance(left, Column):
        return renderer.sql.text_equals_column(renderer.render(left), renderer.render(right))
    return Fragment("(", renderer.same(left), " = " if call.op == "=" else " <> ", renderer.same(right), ")")


def _order(renderer: Renderer, call: Call) -> Piece:
    left, right = call.args
    return Fragment("(", renderer.exact(left), f" {call.op} ", renderer.exact(right), ")")


def _in(renderer: Renderer, call: Call) -> Piece:
    left, *items = call.args
    texts = [renderer.same(item) for item in items]
    if is_type_name(left) and isinstance(left, Column) and all(isinstance(item, Literal) for item in items):
        return renderer.type_is(left, texts)
    return Fragment("(", renderer.same(left), " IN (", *listed(texts), "))")


def _between(renderer: Renderer, call: Call) -> Piece:
    value, low, high = (renderer.exact(arg) for arg in call.args)
    return Fragment("(", value, " BETWEEN ", low, " AND ", high, ")")


def _like(renderer: Renderer, call: Call) -> Piece:
    text, pattern = renderer.all(call.args)
    return renderer.sql.like(text, pattern)


def _is_null(renderer: Renderer, call: Call) -> Piece:
    return Fragment("(", renderer.render(call.args[0]), " IS NULL)")


def _is_truth(renderer: Renderer, call: Call) -> Piece:
    return Fragment("(", renderer.render(call.args[0]), f" {call.op.upper()})")


# --- numbers


def _arithmetic(renderer: Renderer, call: Call) -> Piece:
    left, right = (renderer.wide(arg) for arg in call.args)
    return Fragment("(", left, f" {call.op} ", right, ")")


def _divide(renderer: Renderer, call: Call) -> Piece:
    left, right = (renderer.sql.real(renderer.render(arg), arg.type) for arg in call.args)
    return Fragment("(", left, " / NULLIF(", right, ", 0))")


def _negate(renderer: Renderer, call: Call) -> Piece:
    return Fragment("(- ", renderer.wide(call.args[0]), ")")


def _abs(renderer: Renderer, call: Call) -> Piece:
    return renderer.sql.absolute(renderer.wide(call.args[0]), call.type)


def _mod(renderer: Renderer, call: Call) -> Piece:
    left, right = (renderer.wide(arg) for arg in call.args)
    return renderer.sql.remainder(left, right)


def _div(renderer: Renderer, call: Call) -> Piece:
    left, right = (renderer.wide(arg) for arg in call.args)
    return renderer.sql.quotient(left, right)


def _to_double(renderer: Renderer, call: Call) -> Piece:
    (number,) = call.args
    return renderer.sql.real(renderer.render(number), number.type)


# --- texts


def _ascii_case(renderer: Renderer, call: Call) -> Piece:
    return renderer.sql.in_case(call.op, renderer.render(call.args[0]))


def _length(renderer: Renderer, call: Call) -> Piece:
    return renderer.sql.length(renderer.render(call.args[0]))


def _substr(renderer: Renderer, call: Call) -> Piece:
    text, position, *length = call.args
    found: Piece = renderer.render(text)
    start = _number(position)
    if start < 0:
        found, start = renderer.sql.tail(found, -start), 1
    if length:
        return Fragment("substr(", found, f", {max(start, 1)}, {max(_number(length[0]), 0)})")
    return found if start in (0, 1) else Fragment("substr(", found, f", {start})")


def _number(expression: Expression) -> int:
    assert isinstance(expression, Constant)
    return int(expression.value or 0)


def _trim(renderer: Renderer, call: Call) -> Piece:
    text, characters = call.args
    assert isinstance(characters, Constant)
    found = renderer.render(text)
    return renderer.sql.trimmed(call.op, found, str(characters.value)) if characters.value else found


def _affix(renderer: Renderer, call: Call) -> Piece:
    text, affix, length = call.args
    part = renderer.sql.head if call.op == "starts_with" else renderer.sql.tail
    found = renderer.sql.same(part(renderer.render(text), _number(length)))
    return Fragment("(", found, " = ", renderer.same(affix), ")")


def _strpos(renderer: Renderer, call: Call) -> Piece:
    text, part = renderer.all(call.args)
    return renderer.sql.position(text, part)


def _concat(renderer: Renderer, call: Call) -> Piece:
    return renderer.sql.joined(renderer.all(call.args))


def _to_string(renderer: Renderer, call: Call) -> Piece:
    return renderer.sql.as_string(renderer.render(call.args[0]))


# --- of any type


def _function(name: str) -> Callable[[Renderer, Call], Piece]:
    def render(renderer: Renderer, call: Call) -> Piece:
        return Fragment(f"{name}(", *listed(renderer.all(call.args)), ")")

    return render


def _nullif(renderer: Renderer, call: Call) -> Piece:
    left, right = renderer.all(call.args)
    return renderer.sql.null_if(left, right, call.args[0].type)


def _extreme(renderer: Renderer, call: Call) -> Piece:
    return renderer.sql.extreme(call.op, renderer.all(call.args), call.type)


def _case(renderer: Renderer, call: Call) -> Piece:
    *cases, otherwise = call.args
    return Fragment("(CASE", *_whens(cases, renderer.render, renderer.render), *_else(renderer, otherwise))


def _case_of(renderer: Renderer, call: Call) -> Piece:
    operand, *cases, otherwise = call.args
    whens = _whens(cases, renderer.same, renderer.render)
    return Fragment("(CASE ", renderer.same(operand), *whens, *_else(renderer, otherwise))


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
