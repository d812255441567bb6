"""What filters mean, in plain Python: the product of all rows that a filter names, and three-valued logic."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, Final

from mdstore.store.filterquery.columns import Type
from mdstore.store.filterquery.expressions import Call, Column, Constant, Expression, Literal, Row, rows_of
from mdstore.store.filterquery.plan import Filter
from mdstore.store.kinds import Kind
from tests.filterquery.world import Fields, World


def matching(world: World, found: Filter) -> list[int]:
    """The ids of the nodes that a filter leaves, ascending."""
    return [
        node_id for node_id in sorted(world.nodes[found.kind]) if matches(world, found.kind, node_id, found.expression)
    ]


def matches(world: World, kind: Kind, node_id: int, expression: Expression) -> bool:
    """Whether some combination of the node's rows meets the expression."""
    rows = rows_of(expression)
    node = world.nodes[kind][node_id].fields
    return any(
        evaluate(expression, node, dict(zip(rows, combination, strict=True))) is True
        for combination in product(*(list(world.rows(kind, node_id, row)) for row in rows))
    )


def evaluate(expression: Expression, node: Fields, rows: Mapping[Row, Fields]) -> Any:
    """The value of an expression; None for NULL."""
    match expression:
        case Column():
            return (node if expression.row is None else rows[expression.row]).get(expression.name)
        case Literal() | Constant():
            return expression.value
        case Call(op="case"):
            return _case(expression.args, lambda condition: evaluate(condition, node, rows) is True, node, rows)
        case Call(op="case of"):
            operand, *cases = expression.args
            value = evaluate(operand, node, rows)
            return _case(cases, lambda case: _equal(value, evaluate(case, node, rows)) is True, node, rows)
        case Call():
            args = [evaluate(arg, node, rows) for arg in expression.args]
            if expression.op in _LENIENT:
                return _LENIENT[expression.op](*args)
            return None if None in args else _STRICT[expression.op](*args)


def _case(
    args: Sequence[Expression], holds: Callable[[Expression], bool], node: Fields, rows: Mapping[Row, Fields]
) -> Any:
    *cases, otherwise = args
    for case, value in zip(cases[::2], cases[1::2], strict=True):
        if holds(case):
            return evaluate(value, node, rows)
    return evaluate(otherwise, node, rows)


def _and(*args: Any) -> Any:
    return False if False in args else None if None in args else True


def _or(*args: Any) -> Any:
    return True if True in args else None if None in args else False


def _equal(left: Any, right: Any) -> Any:
    return None if left is None or right is None else left == right


def _in(value: Any, *items: Any) -> Any:
    return _or(*(_equal(value, item) for item in items))


def _between(value: Any, low: Any, high: Any) -> Any:
    return _and(
        None if value is None or low is None else value >= low, None if value is None or high is None else value <= high
    )


_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TO_LOWER: Final = str.maketrans(_UPPER, _UPPER.lower())
_TO_UPPER: Final = str.maketrans(_UPPER.lower(), _UPPER)


def _like(text: str, pattern: str) -> bool:
    found = ""
    signs = iter(pattern)
    for sign in signs:
        if sign == "\\":
            found += re.escape(next(signs).translate(_TO_LOWER))
        else:
            found += {"%": ".*", "_": "."}.get(sign, re.escape(sign.translate(_TO_LOWER)))
    return re.fullmatch(found, text.translate(_TO_LOWER), re.DOTALL) is not None


def _substr(text: str, position: int, length: int | None = None) -> str:
    start = position - 1 if position > 0 else 0 if position == 0 else max(len(text) + position, 0)
    return text[start:] if length is None else text[start : start + max(length, 0)]


def _truncated(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _divided(left: float, right: float, of: Callable[[Any, Any], Any]) -> Any:
    return None if right == 0 else of(left, right)


def _affix(test: Callable[[str, str], bool]) -> Callable[[str, str, int], bool]:
    return lambda text, affix, _length: test(text, affix)


_LENIENT: Final[Mapping[str, Callable[..., Any]]] = {
    "and": _and,
    "or": _or,
    "in": _in,
    "between": _between,
    "is null": lambda value: value is None,
    "is true": lambda value: value is True,
    "is false": lambda value: value is False,
    "coalesce": lambda *args: next((arg for arg in args if arg is not None), None),
    "nullif": lambda left, right: None if _equal(left, right) else left,
}
"""Operations that give something for NULL."""

_STRICT: Final[Mapping[str, Callable[..., Any]]] = {
    "not": lambda value: not value,
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "like": _like,
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: _divided(left, right, lambda a, b: float(a) / float(b)),
    "negate": lambda value: -value,
    "abs": abs,
    "lower": lambda text: text.translate(_TO_LOWER),
    "upper": lambda text: text.translate(_TO_UPPER),
    "length": len,
    "substr": _substr,
    "trim": lambda text, characters: text.strip(characters),
    "ltrim": lambda text, characters: text.lstrip(characters),
    "rtrim": lambda text, characters: text.rstrip(characters),
    "replace": lambda text, old, new: text.replace(old, new) if old else text,
    "concat": lambda *args: "".join(args),
    "starts_with": _affix(str.startswith),
    "ends_with": _affix(str.endswith),
    "strpos": lambda text, part: text.find(part) + 1,
    "greatest": max,
    "least": min,
    "mod": lambda left, right: _divided(left, right, lambda a, b: a - b * _truncated(a, b)),
    "div": lambda left, right: _divided(left, right, _truncated),
    f"to {Type.DOUBLE.value}": float,
    f"to {Type.STRING.value}": str,
}
"""Operations that give NULL for any NULL."""
