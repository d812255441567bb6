"""The functions of the filter language: how many operands of which types, and what comes out.

Only those are here that mean the same on every database. What a database cannot do itself is written out in
`rendering`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mdstore.store.filterquery.columns import Type
from mdstore.store.filterquery.expressions import Call, Constant, Expression, Literal, call, walk
from mdstore.store.filterquery.syntax import fault

MOST_POSITION: Final = 2**31 - 1
MOST_OPERANDS: Final = 100
"""Of one function: PostgreSQL and SQLite take about as many."""
MOST_REPLACEMENT: Final = 1_000


def coerced(expression: Expression, type_: Type) -> Expression:
    """A NULL without a type gets this one; anything else stays."""
    if isinstance(expression, Constant) and expression.type is Type.NULL:
        return Constant(type_, None)
    return expression


def common(types: Sequence[Type]) -> Type | None:
    """The type that all of these can be taken for, or None; NULL when all are NULL."""
    known = {type_ for type_ in types if type_ is not Type.NULL}
    if not known:
        return Type.NULL
    if len(known) == 1:
        return known.pop()
    return Type.DOUBLE if all(type_.is_number for type_ in known) else None


def names(types: Sequence[Type]) -> str:
    """Types, for messages."""
    return ", ".join(type_.value for type_ in types) or "nothing"


@dataclass(frozen=True, slots=True)
class Operands:
    """The operands of a function, and where it stands."""

    name: str
    args: Sequence[Expression]
    at: int

    @property
    def types(self) -> list[Type]:
        """Of each operand."""
        return [arg.type for arg in self.args]

    def refused(self, signature: str) -> Exception:
        """The fault of operands that do not fit."""
        fault(f"{self.name}() does not take {names(self.types)}", self.at, f"write {signature}")

    def strings(self, signature: str, count: int | None = None) -> tuple[Expression, ...]:
        """All operands, which must be strings."""
        fits = len(self.args) == count if count is not None else len(self.args) > 0
        if not fits or any(type_ not in (Type.STRING, Type.NULL) for type_ in self.types):
            self.refused(signature)
        return tuple(coerced(arg, Type.STRING) for arg in self.args)

    def alike(self, signature: str, least: int, most: int | None = None) -> tuple[tuple[Expression, ...], Type]:
        """All operands and the type that they have in common."""
        found = common(self.types)
        if found is None or len(self.args) < least or (most is not None and len(self.args) > most):
            self.refused(signature)
        # As in GoogleSQL, NULL alone is an integer.
        type_ = Type.INT64 if found in (Type.NULL, None) else found
        return tuple(coerced(arg, type_) for arg in self.args), type_

    def literal(self, place: int, type_: Type, signature: str) -> int | float | str:
        """The value of an operand that must be a literal, so that it means the same everywhere."""
        arg = self.args[place]
        if not isinstance(arg, Literal) or arg.type is not type_:
            fault(f"{self.name}() needs a literal {type_.value} as operand {place + 1}", self.at, f"write {signature}")
        return arg.value


Make = Callable[[Operands], Expression]


def _string_to(type_: Type, op: str) -> Make:
    def make(operands: Operands) -> Expression:
        return call(op, operands.strings(f"{op}(STRING)", 1), type_)

    return make


def _abs(operands: Operands) -> Expression:
    args, type_ = operands.alike("abs(number)", 1, 1)
    if not type_.is_number:
        operands.refused("abs(number)")
    return call("abs", args, type_)


def _substr(operands: Operands) -> Expression:
    signature = "substr(STRING, position) or substr(STRING, position, length), both written as numbers"
    if len(operands.args) not in (2, 3) or operands.types[0] not in (Type.STRING, Type.NULL):
        operands.refused(signature)
    found = []
    for place in range(1, len(operands.args)):
        value = int(operands.literal(place, Type.INT64, signature))
        found.append(Constant(Type.INT64, max(-MOST_POSITION, min(value, MOST_POSITION))))
    return call("substr", (coerced(operands.args[0], Type.STRING), *found), Type.STRING)


def _trim(operands: Operands) -> Expression:
    signature = f"{operands.name}(STRING) or {operands.name}(STRING, 'characters')"
    args = operands.strings(signature)
    if len(args) > 2:
        operands.refused(signature)
    characters = " " if len(args) == 1 else str(operands.literal(1, Type.STRING, signature))
    return call(operands.name, (args[0], Constant(Type.STRING, characters)), Type.STRING)


def _affix(operands: Operands) -> Expression:
    signature = f"{operands.name}(STRING, 'text')"
    args = operands.strings(signature, 2)
    text = str(operands.literal(1, Type.STRING, signature))
    return call(operands.name, (args[0], args[1], Constant(Type.INT64, len(text))), Type.BOOL)


def _strpos(operands: Operands) -> Expression:
    return call("strpos", operands.strings("strpos(STRING, STRING)", 2), Type.INT64)


def _replace(operands: Operands) -> Expression:
    signature = "replace(STRING, 'text', 'text')"
    args = operands.strings(signature, 3)
    # Replacements inside each other, or by whole columns, could make a text of gigabytes from a few bytes.
    texts = [
        operands.literal(place, Type.STRING, signature) for place in (1, 2) if operands.types[place] is Type.STRING
    ]
    if any(len(str(text)) > MOST_REPLACEMENT for text in texts):
        fault(f"replace() takes texts of no more than {MOST_REPLACEMENT} characters", operands.at)
    if any(isinstance(part, Call) and part.op == "replace" for part in walk(args[0])):
        fault("replace() stands inside replace()", operands.at, "replace once")
    return call("replace", args, Type.STRING)


def _concat(operands: Operands) -> Expression:
    return call("concat", operands.strings("concat(STRING, ..)"), Type.STRING)


def _coalesce(operands: Operands) -> Expression:
    args, type_ = operands.alike("coalesce(value, ..) of one type", 1)
    return args[0] if len(args) == 1 else call("coalesce", args, type_)


def _ifnull(operands: Operands) -> Expression:
    args, type_ = operands.alike("ifnull(value, value) of one type", 2, 2)
    return call("coalesce", args, type_)


def _nullif(operands: Operands) -> Expression:
    args, _ = operands.alike("nullif(value, value) of one type", 2, 2)
    return call("nullif", args, args[0].type)


def _if(operands: Operands) -> Expression:
    signature = "if(condition, value, value) with values of one type"
    if len(operands.args) != 3 or operands.types[0] not in (Type.BOOL, Type.NULL):
        operands.refused(signature)
    found = common(operands.types[1:])
    if found is None:
        operands.refused(signature)
    type_ = Type.INT64 if found in (Type.NULL, None) else found
    condition, then, otherwise = operands.args
    return call("case", (coerced(condition, Type.BOOL), coerced(then, type_), coerced(otherwise, type_)), type_)


def _extreme(operands: Operands) -> Expression:
    args, type_ = operands.alike(f"{operands.name}(value, ..) of one type", 1)
    return args[0] if len(args) == 1 else call(operands.name, args, type_)


def _integers(operands: Operands) -> Expression:
    signature = f"{operands.name}(INT64, INT64)"
    if len(operands.args) != 2 or any(type_ not in (Type.INT64, Type.NULL) for type_ in operands.types):
        operands.refused(signature)
    return call(operands.name, tuple(coerced(arg, Type.INT64) for arg in operands.args), Type.INT64)


FUNCTIONS: Final[dict[str, Make]] = {
    "abs": _abs,
    "lower": _string_to(Type.STRING, "lower"),
    "upper": _string_to(Type.STRING, "upper"),
    "length": _string_to(Type.INT64, "length"),
    "char_length": _string_to(Type.INT64, "length"),
    "character_length": _string_to(Type.INT64, "length"),
    "substr": _substr,
    "trim": _trim,
    "ltrim": _trim,
    "rtrim": _trim,
    "replace": _replace,
    "concat": _concat,
    "starts_with": _affix,
    "ends_with": _affix,
    "strpos": _strpos,
    "coalesce": _coalesce,
    "ifnull": _ifnull,
    "nullif": _nullif,
    "if": _if,
    "greatest": _extreme,
    "least": _extreme,
    "mod": _integers,
    "div": _integers,
}
INSTEAD: Final = {
    "substring": "write substr",
    "instr": "write strpos",
    "left": "write substr(STRING, 1, length)",
    "right": "write substr(STRING, -length)",
    "regexp_contains": "write LIKE",
    "contains_substr": "write LIKE '%..%'",
    "safe_cast": "write CAST(.. AS ..)",
    "current_timestamp": "write the time as milliseconds since 1970",
    "timestamp": "write the time as milliseconds since 1970",
    "date": "write the time as milliseconds since 1970",
    "any": "write IN (..), or several LIKE with OR between them",
    "all": "write several conditions with AND between them",
    "some": "write IN (..), or several LIKE with OR between them",
    "count": "there are no aggregates: a filter looks at one node",
    "max": "write greatest; there are no aggregates",
    "min": "write least; there are no aggregates",
    "sum": "there are no aggregates: a filter looks at one node",
}
