"""A filter cut into parts, each over as few rows as possible.

MLMD joins a node with one row per property and neighbour that its filter names, and asks whether any combination of
these rows meets the whole condition. The combinations are a product, so of a context with 90,000 artifacts and as many
executions one would never see the end. But "some a and some b with f(a) and g(b)" is "some a with f(a), and some b with
g(b)", and the same goes for OR; so what is left to combine is only what one condition really compares.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mdstore.store.filterquery.columns import Type
from mdstore.store.filterquery.expressions import Call, Column, Expression, Literal, Row, call, rows_of, walk


@dataclass(frozen=True, slots=True)
class Part:
    """Some combination of these rows meets the condition; without a condition, the rows are there."""

    rows: tuple[Row, ...]
    condition: Expression | None


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the alternatives holds, each being parts that hold together."""

    alternatives: tuple[tuple["Part | AnyOf", ...], ...]


Parts = tuple[Part | AnyOf, ...]

MOST_ALONE = 50
"""Conditions on the node itself that are parts of their own, each of which a statement may begin with."""


def size(parts: Parts) -> int:
    """How many parts there are, those of alternatives too."""
    return sum(
        sum(size(alternative) for alternative in part.alternatives) if isinstance(part, AnyOf) else 1 for part in parts
    )


def cut(expression: Expression) -> Parts:
    """The parts that together mean the expression, with a row for every property and neighbour it names."""
    parts = _cut(_pushed(expression))
    required = {row for part in parts if isinstance(part, Part) for row in part.rows}
    others = (Part((row,), None) for row in rows_of(expression) if row not in required)
    return (*parts, *others)


def _pushed(expression: Expression, *, negated: bool = False) -> Expression:
    """NOT moved from AND and OR to what is inside them, which in three-valued logic means the same."""
    if isinstance(expression, Call):
        if expression.op == "not":
            return _pushed(expression.args[0], negated=not negated)
        if expression.op in ("and", "or"):
            op = {"and": "or", "or": "and"}[expression.op] if negated else expression.op
            return call(op, tuple(_flattened(op, expression.args, negated=negated)), Type.BOOL)
    return call("not", (expression,), Type.BOOL) if negated else expression


def _flattened(op: str, args: Sequence[Expression], *, negated: bool) -> Iterator[Expression]:
    for arg in args:
        found = _pushed(arg, negated=negated)
        if isinstance(found, Call) and found.op == op:
            yield from found.args
        else:
            yield found


def _cut(expression: Expression) -> Parts:
    rows = rows_of(expression)
    match expression:
        case Call(op="and", args=args):
            return tuple(part for group in _groups(args) for part in _cut_group(group))
        case Call(op="or", args=args) if len(rows) > 1:
            return (AnyOf(tuple(_cut(arg) for arg in _alternatives(args))),)
        case _:
            return (Part(rows, expression),)


def _cut_group(group: Sequence[Expression]) -> Parts:
    if len(group) == 1:
        return _cut(group[0])
    together = call("and", tuple(group), Type.BOOL)
    return (Part(rows_of(together), together),)


def _alternatives(args: Sequence[Expression]) -> Iterator[Expression]:
    """Alternatives over the same row, or none, as one: "some a with f(a), or some a with g(a)" is one look."""
    merged: dict[Row | None, list[Expression]] = {}
    for arg in args:
        rows = rows_of(arg)
        if len(rows) > 1:
            yield arg
        else:
            merged.setdefault(rows[0] if rows else None, []).append(arg)
    for group in merged.values():
        yield group[0] if len(group) == 1 else call("or", tuple(group), Type.BOOL)


def _groups(args: Sequence[Expression]) -> list[list[Expression]]:
    """Conditions that share rows, directly or through others, in one group; one without rows is alone."""
    alone: list[list[Expression]] = []
    groups: list[tuple[set[Row], list[Expression]]] = []
    for arg in args:
        rows = set(rows_of(arg))
        if not rows:
            alone.append([arg])
            continue
        items: list[Expression] = []
        others = []
        for group in groups:
            if group[0] & rows:
                rows |= group[0]
                items += group[1]
            else:
                others.append(group)
        groups = [*others, (rows, [*items, arg])]
    rest = [item for items in alone[MOST_ALONE:] for item in items]
    return [*alone[:MOST_ALONE], *([rest] if rest else []), *(items for _, items in groups)]


_INDEXED_NODE = frozenset(
    ("id", "type_id", "type", "name", "external_id", "uri", "create_time_since_epoch", "last_update_time_since_epoch")
)
_INDEXED_NEIGHBOUR = frozenset(("id", "type", "name", "external_id", "uri", "artifact_id", "execution_id"))
_INDEXED_PROPERTY = frozenset(("int_value", "double_value", "string_value"))
_EQUALITY_ONLY = frozenset(("type", "name"))


def has_index(part: Part | AnyOf) -> bool:
    """Whether indexes find the nodes of which a part holds, or a few more."""
    if isinstance(part, AnyOf):
        return all(any(has_index(inner) for inner in alternative) for alternative in part.alternatives)
    if len(part.rows) > 1:
        return False
    asked = asked_of_rows(part)
    return asked is not None and _has_index(asked, part.rows[0] if part.rows else None)


def asked_of_rows(part: Part) -> Expression | None:
    """What a part asks of its rows alone; all of it where it has none, or does not speak of the node too."""
    if part.condition is None or not part.rows:
        return part.condition
    items = (
        part.condition.args if isinstance(part.condition, Call) and part.condition.op == "and" else (part.condition,)
    )
    asked = tuple(item for item in items if not _speaks_of_node(item))
    if len(asked) == len(items):
        return part.condition
    return call("and", asked, Type.BOOL) if len(asked) > 1 else asked[0] if asked else None


def _speaks_of_node(expression: Expression) -> bool:
    return any(isinstance(item, Column) and item.row is None for item in walk(expression))


def _has_index(item: Expression, row: Row | None) -> bool:
    if not isinstance(item, Call):
        return False
    if item.op == "and":
        return any(_has_index(arg, row) for arg in item.args)
    if item.op == "or":
        return all(_has_index(arg, row) for arg in item.args)
    if item.op not in ("=", "<", "<=", ">", ">=", "in", "between"):
        return False
    column, *values = item.args
    if not isinstance(column, Column) or column.row != row or not all(isinstance(value, Literal) for value in values):
        return False
    if column.name == "type" and column.type is Type.INT64:
        return False  # an event's
    indexed = (row is None and _INDEXED_NODE) or (row and row.relation.is_property and _INDEXED_PROPERTY)
    return column.name in (indexed or _INDEXED_NEIGHBOUR) and (
        item.op in ("=", "in") or column.name not in _EQUALITY_ONLY
    )


def is_unique(part: Part | AnyOf) -> bool:
    """Whether it holds of one node at most, without a look into the database."""
    return (
        isinstance(part, Part)
        and isinstance(part.condition, Call)
        and part.condition.op == "="
        and isinstance(part.condition.args[0], Column)
        and part.condition.args[0].row is None
        and part.condition.args[0].name in ("id", "external_id")
        and isinstance(part.condition.args[1], Literal)
    )
