"""From what a filter says to what it means: names become columns, types are checked, literals are numbered."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from mdstore.store.filterquery import functions
from mdstore.store.filterquery.columns import (
    NEIGHBOUR_FIELDS,
    NODE_FIELDS,
    PROPERTY_FIELDS,
    Field,
    Relation,
    Type,
    described,
)
from mdstore.store.filterquery.expressions import FALSE, TRUE, Column, Constant, Expression, Literal, Row, call, rows_of
from mdstore.store.filterquery.functions import coerced, common, names
from mdstore.store.filterquery.syntax import Apply, FilterFault, Group, Name, Syntax, Value, fault, inside
from mdstore.store.kinds import Kind

MOST_ROWS: Final = 20
"""How many properties and neighbours a filter may name: databases join no more than about 60 tables."""
MOST_WEIGHT: Final = 30_000
MOST_NESTING: Final = 60
"""Of a hundred that SQLite's parser has; the rest is for what stands around a condition."""
MOST_PATTERN: Final = 10_000

_COMPARISONS: Final = frozenset(("=", "!=", "<", "<=", ">", ">="))
_ALIAS: Final = re.compile(r"\w+")
_DIGIT: Final = range(10)


def check(kind: Kind, syntax: Syntax) -> tuple[Expression, list[int | float | str]]:
    """What a filter over nodes of a kind means, and the values of its literals by slot.

    Raises:
        FilterFault: a name is not known, types do not fit, or it is no condition.
    """
    checker = _Checker(kind)
    found = checker.expression(syntax)
    if found.type is not Type.BOOL:
        fault(f"the filter is {found.type.value} and not a condition", 0, "compare it with something")
    if found.weight > MOST_WEIGHT:
        fault("the filter is too large", 0, "ask in several calls")
    if found.nesting > MOST_NESTING:
        fault("the filter has too many operations inside each other", 0, "write it flatter, or ask in several calls")
    rows = rows_of(found)
    if len(rows) > MOST_ROWS:
        fault(f"the filter names {len(rows)} properties and neighbours, and {MOST_ROWS} are allowed", 0)
    return found, checker.values


class _Checker:
    """One filter's literals, and the columns that it may use."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.values: list[int | float | str] = []

    def expression(self, syntax: Syntax) -> Expression:
        match syntax:
            case Group():
                return self.expression(syntax.inner)
            case Value(value=None):
                return Constant(Type.NULL, None)
            case Value(value=bool()):
                return Constant(Type.BOOL, syntax.value)
            case Value(value=value):
                assert value is not None
                return self.literal(value)
            case Name():
                row, field = self.column(syntax)
                return Column(row, field.name, field.type)
            case _:
                return self.apply(syntax)

    def literal(self, value: int | float | str) -> Literal:
        type_ = Type.STRING if isinstance(value, str) else Type.INT64 if isinstance(value, int) else Type.DOUBLE
        if isinstance(value, int) and value >= 2**63:
            # Beyond every integer of a database, which then takes it for a double.
            value = float(value)
        self.values.append(value)
        return Literal(type_, len(self.values) - 1, value)

    def column(self, name: Name) -> tuple[Row | None, Field]:
        first, *rest = name.parts
        if not rest:
            field = NODE_FIELDS[self.kind].get(first.lower())
            if field is None:
                fault(f"there is no column {name}", name.at, self.hint(first))
            return None, field
        if name.quoted[0]:
            fault(f"there is no column {name}", name.at, f"write {first} without backquotes")
        if first in (Relation.PROPERTY.value, Relation.CUSTOM_PROPERTY.value):
            return self.property(name, Relation(first), rest)
        for relation, fields in NEIGHBOUR_FIELDS[self.kind].items():
            prefix = f"{relation.value}_"
            alias = first[len(prefix) :]
            if not first.startswith(prefix) or not _ALIAS.fullmatch(alias):
                continue
            field = fields.get(rest[0].lower()) if len(rest) == 1 else None
            if field is None:
                fault(f"there is no column {name}", name.at, f"{first} has {', '.join(fields)}")
            return Row(relation, alias), field
        raise FilterFault(f"there is no column {name}", name.at, self.hint(first))

    def property(self, name: Name, relation: Relation, rest: Sequence[str]) -> tuple[Row, Field]:
        field = PROPERTY_FIELDS.get(rest[1].lower()) if len(rest) == 2 else None
        if field is None:
            instead = f"write {relation.value}.NAME.FIELD with FIELD one of {', '.join(PROPERTY_FIELDS)}"
            fault(f"there is no column {name}", name.at, f"{instead}, and names with other characters in backquotes")
        return Row(relation, rest[0]), field

    def hint(self, word: str) -> str:
        if word in (Relation.PROPERTY.value, Relation.CUSTOM_PROPERTY.value):
            return f"write {word}.NAME.FIELD with FIELD one of {', '.join(PROPERTY_FIELDS)}"
        if any(word in (field.names or {}) for fields in self.all_fields() for field in fields.values()):
            return "a state's or an event type's name stands right of =, !=, IN or NOT IN, with the column on the left"
        return f"{described(self.kind)}; a text stands in quotes"

    def all_fields(self) -> Sequence[dict[str, Field]]:
        return [dict(NODE_FIELDS[self.kind]), *(dict(fields) for fields in NEIGHBOUR_FIELDS[self.kind].values())]

    def apply(self, syntax: Apply) -> Expression:
        op = syntax.op
        if (named := self.enum(syntax)) is not None:
            return named
        args = [self.expression(arg) for arg in syntax.args]
        if op.endswith("()"):
            make = functions.FUNCTIONS.get(op[:-2])
            if make is None:
                instead = functions.INSTEAD.get(op[:-2], f"there are {', '.join(functions.FUNCTIONS)}")
                fault(f"there is no function {op[:-2]}", syntax.at, instead)
            if len(args) > functions.MOST_OPERANDS:
                fault(f"{op[:-2]}() takes no more than {functions.MOST_OPERANDS} operands", syntax.at)
            return make(functions.Operands(op[:-2], args, syntax.at))
        if op.startswith("cast as "):
            return self.cast(syntax, args[0])
        if op == "<>":
            op = "!="
        if op in _COMPARISONS:
            return self.comparison(op, syntax, args)
        operator = _OPERATORS.get(op)
        assert operator is not None, op
        return operator(syntax, args)

    def comparison(self, op: str, syntax: Apply, args: Sequence[Expression]) -> Expression:
        _no_null(syntax, args)
        type_ = common([arg.type for arg in args])
        if type_ is None:
            fault(f"{syntax.op} does not compare {names([arg.type for arg in args])}", syntax.at, _conversion(args))
        return call(op, tuple(args), Type.BOOL)

    def enum(self, syntax: Apply) -> Expression | None:
        """`state = LIVE` and its like: the names of numbers. None when this is no such thing."""
        if syntax.op not in ("=", "!=", "<>", "in", "not in"):
            return None
        left, *right = syntax.args
        if not isinstance(left, Name):
            return None
        row, field = self.column(left)
        if field.names is None:
            return None
        named = [item for item in right if isinstance(item, Name)]
        if not named:
            self.numbers(syntax, left, field, right)
            return None
        if syntax.op == "<>":
            fault("<> does not compare with names", syntax.at, f"write {left} != {named[0]}")
        numbers: list[Expression] = []
        for item in right:
            if not isinstance(item, Name):
                fault(f"{left} is compared with names and other values in one list", item.at, _choice(field))
            number = field.names.get(item.parts[0]) if len(item.parts) == 1 and not item.quoted[0] else None
            if number is None:
                fault(f"{item} is no {left.parts[-1]}", item.at, _choice(field))
            numbers.append(self.literal(number))
        column = Column(row, field.name, field.type)
        found = call("=" if len(numbers) == 1 else "in", (column, *numbers), Type.BOOL)
        if syntax.op in ("=", "in"):
            return found
        # A node without a state is in none of the states.
        return call("or", (call("not", (found,), Type.BOOL), call("is null", (column,), Type.BOOL)), Type.BOOL)

    def numbers(self, syntax: Apply, left: Name, field: Field, right: Sequence[Syntax]) -> None:
        """Refuse what MLMD refuses: a bare number where a name belongs. `2 = state` and `IN (2)` are let through."""
        if left.quoted[-1] or left.parts[-1] != field.name or syntax.op == "<>":
            return
        values = [item for item in right if isinstance(item, Value) and isinstance(item.value, int | float)]
        if not values:
            return
        value = values[0].value
        if syntax.op in ("in", "not in") and len(right) == 1 and value in _DIGIT:
            return
        if isinstance(value, bool) or (isinstance(value, int | float) and value < 0):
            return
        fault(f"{value} is no {left.parts[-1]}", values[0].at, _choice(field))

    def cast(self, syntax: Apply, arg: Expression) -> Expression:
        wanted = _CASTS.get(syntax.op.removeprefix("cast as "))
        if wanted is None:
            fault(f"there is no type {syntax.op.removeprefix('cast as ')}", syntax.at, f"there are {', '.join(_CASTS)}")
        if arg.type is wanted:
            return arg
        if arg.type is Type.NULL:
            return coerced(arg, wanted)
        if arg.type is Type.INT64 and wanted in (Type.DOUBLE, Type.STRING):
            return call(f"to {wanted.value}", (arg,), wanted)
        if arg.type is Type.BOOL and wanted is Type.INT64:
            cases = (arg, TRUE, Constant(Type.INT64, 1), FALSE, Constant(Type.INT64, 0), Constant(Type.INT64, None))
            return call("case of", cases, Type.INT64)
        raise FilterFault(
            f"{arg.type.value} cannot be cast to {wanted.value}",
            syntax.at,
            "INT64 can be cast to FLOAT64 and STRING, BOOL to INT64",
        )


_CASTS: Final = {
    "int64": Type.INT64,
    "float64": Type.DOUBLE,
    "double": Type.DOUBLE,
    "string": Type.STRING,
    "bool": Type.BOOL,
    "boolean": Type.BOOL,
}


def call_not(arg: Expression) -> Expression:
    """NOT of a condition."""
    return call("not", (arg,), Type.BOOL)


def _choice(field: Field) -> str:
    return f"{field.name} is one of {', '.join(field.names or ())}"


def _no_null(syntax: Apply, args: Sequence[Expression]) -> None:
    for arg, written in zip(args, syntax.args, strict=True):
        if isinstance(arg, Constant) and arg.type is Type.NULL:
            fault(f"NULL cannot be an operand of {syntax.op.upper()}", inside(written).at, "write IS NULL")


def _conversion(args: Sequence[Expression]) -> str:
    types = {arg.type for arg in args}
    if types <= {Type.STRING, Type.INT64, Type.DOUBLE}:
        return "write numbers without quotes and texts with them"
    return "write values of one type"


def _conditions(syntax: Apply, args: Sequence[Expression]) -> tuple[Expression, ...]:
    for arg, written in zip(args, syntax.args, strict=True):
        if arg.type not in (Type.BOOL, Type.NULL):
            fault(
                f"{syntax.op.upper()} takes conditions, and this is {arg.type.value}",
                inside(written).at,
                "compare it with something",
            )
    return tuple(coerced(arg, Type.BOOL) for arg in args)


def _connective(syntax: Apply, args: Sequence[Expression]) -> Expression:
    return call(syntax.op, _conditions(syntax, args), Type.BOOL)


def _not(syntax: Apply, args: Sequence[Expression]) -> Expression:
    _no_null(syntax, args)
    return call("not", _conditions(syntax, args), Type.BOOL)


def _in(syntax: Apply, args: Sequence[Expression]) -> Expression:
    type_ = common([arg.type for arg in args])
    if type_ is None:
        fault(f"IN does not compare {names(_distinct(args))}", syntax.at, _conversion(args))
    type_ = Type.INT64 if type_ is Type.NULL else type_
    found = call("in", tuple(coerced(arg, type_) for arg in args), Type.BOOL)
    return call_not(found) if syntax.op == "not in" else found


def _distinct(args: Sequence[Expression]) -> list[Type]:
    return list(dict.fromkeys(arg.type for arg in args))


def _between(syntax: Apply, args: Sequence[Expression]) -> Expression:
    type_ = common([arg.type for arg in args])
    if type_ is None:
        fault(f"BETWEEN does not compare {names([arg.type for arg in args])}", syntax.at, _conversion(args))
    type_ = Type.INT64 if type_ is Type.NULL else type_
    return call("between", tuple(coerced(arg, type_) for arg in args), Type.BOOL)


def _like(syntax: Apply, args: Sequence[Expression]) -> Expression:
    _no_null(syntax, args)
    text, pattern = args
    if text.type is not Type.STRING or pattern.type is not Type.STRING:
        fault(f"LIKE does not compare {names([arg.type for arg in args])}", syntax.at, "write STRING LIKE 'pattern'")
    at = inside(syntax.args[1]).at
    if not isinstance(pattern, Literal):
        fault("the pattern of LIKE is no text in quotes", at, "write STRING LIKE 'pattern', or use strpos")
    value = str(pattern.value)
    if len(value) > MOST_PATTERN:
        fault(f"the pattern of LIKE is longer than {MOST_PATTERN} characters", at)
    if (len(value) - len(value.rstrip("\\"))) % 2:
        fault("the pattern of LIKE ends with an escape for nothing", at, r"write \\\\ for a backslash")
    return call("like", (text, pattern), Type.BOOL)


def _is_null(_syntax: Apply, args: Sequence[Expression]) -> Expression:
    return call("is null", (coerced(args[0], Type.INT64),), Type.BOOL)


def _is_truth(syntax: Apply, args: Sequence[Expression]) -> Expression:
    conditions = _conditions(syntax, args)
    return call("is null" if syntax.op == "is unknown" else syntax.op, conditions, Type.BOOL)


def _arithmetic(syntax: Apply, args: Sequence[Expression]) -> Expression:
    _no_null(syntax, args)
    types = [arg.type for arg in args]
    if not all(type_.is_number for type_ in types):
        fault(f"{syntax.op} does not take {names(types)}", syntax.at, "write numbers, and || to join texts")
    type_ = Type.DOUBLE if syntax.op == "/" or Type.DOUBLE in types else Type.INT64
    return call(syntax.op, tuple(args), type_)


def _sign(syntax: Apply, args: Sequence[Expression]) -> Expression:
    _no_null(syntax, args)
    if not args[0].type.is_number:
        fault(f"a sign does not go with {args[0].type.value}", syntax.at, "write it before a number")
    return args[0] if syntax.op == "plus" else call("negate", tuple(args), args[0].type)


def _concat(syntax: Apply, args: Sequence[Expression]) -> Expression:
    return functions.FUNCTIONS["concat"](functions.Operands("concat", args, syntax.at))


def _case(syntax: Apply, args: Sequence[Expression]) -> Expression:
    """`condition, value, condition, value, .., else`."""
    for condition in args[:-1:2]:
        if condition.type not in (Type.BOOL, Type.NULL):
            fault(f"WHEN takes a condition, and this is {condition.type.value}", syntax.at, "compare it with something")
    values, type_ = _values(syntax, [*args[1:-1:2], args[-1]])
    conditions = [coerced(condition, Type.BOOL) for condition in args[:-1:2]]
    return call("case", _woven(conditions, values), type_)


def _case_of(syntax: Apply, args: Sequence[Expression]) -> Expression:
    """`operand, value, result, value, result, .., else`."""
    compared = [args[0], *args[1:-1:2]]
    type_ = common([arg.type for arg in compared])
    if type_ is None:
        fault(f"CASE does not compare {names(_distinct(compared))}", syntax.at, _conversion(compared))
    operand, *cases = (coerced(arg, Type.INT64 if type_ is Type.NULL else type_) for arg in compared)
    values, result = _values(syntax, [*args[2:-1:2], args[-1]])
    return call("case of", (operand, *_woven(cases, values)), result)


def _values(syntax: Apply, values: Sequence[Expression]) -> tuple[Sequence[Expression], Type]:
    type_ = common([value.type for value in values])
    if type_ is None:
        fault(f"CASE cannot give {names(_distinct(values))}", syntax.at, "give values of one type")
    type_ = Type.INT64 if type_ is Type.NULL else type_
    return [coerced(value, type_) for value in values], type_


def _woven(cases: Sequence[Expression], values: Sequence[Expression]) -> tuple[Expression, ...]:
    pairs = [part for pair in zip(cases, values[:-1], strict=True) for part in pair]
    return (*pairs, values[-1])


_OPERATORS: Final[dict[str, Callable[[Apply, Sequence[Expression]], Expression]]] = {
    "and": _connective,
    "or": _connective,
    "not": _not,
    "in": _in,
    "not in": _in,
    "between": _between,
    "like": _like,
    "is null": _is_null,
    "is unknown": _is_truth,
    "is true": _is_truth,
    "is false": _is_truth,
    "+": _arithmetic,
    "-": _arithmetic,
    "*": _arithmetic,
    "/": _arithmetic,
    "negate": _sign,
    "plus": _sign,
    "||": _concat,
    "case": _case,
    "case of": _case_of,
}
