"""Random small stores, and random filters over them as texts."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from mdstore.store.filterquery.columns import NEIGHBOUR_FIELDS, NODE_FIELDS, Field, Relation, Type
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, KINDS, Kind
from tests.filterquery.world import Node, World

NAMES: Final = ("a", "A", "ab", "aB_", "b%", "é", "É", "\\", "it's", '"q"', "name", "😀", " a ", "")
TYPES: Final = ("T", "t", "U")
PROPERTIES: Final = ("p", "P", "my key:x.y", "a`b", "q'\"")
EXAMPLE_PROPERTIES: Final = ("i", "s", "d", "b", "c", "k", "my key:x.y", "parent_dag_id")
EXAMPLE_TEXTS: Final = st.sampled_from(
    (
        "art1",
        "ART2",
        "art5",
        "ex1",
        "ctx0",
        "ctx3",
        "Data",
        "Run",
        "Train",
        "v1",
        "s3://b/1",
        "x",
        "X",
        "a_b",
        "1",
    )
)
_FAULTY: Final = {
    (relation, field)
    for relation, fields in (
        ("parent_contexts", ("create_time_since_epoch", "last_update_time_since_epoch")),
        ("child_contexts", ("create_time_since_epoch", "last_update_time_since_epoch")),
        ("artifacts", ("external_id",)),
        ("executions", ("external_id",)),
    )
    for field in fields
}
"""Columns that the library's own SQL does not have."""
_PRINTED: Final = frozenset("\\'\"")
"""Characters that the library does not print into SQL as it reads them."""
ALIASES: Final = ("x", "y")
COLUMNS: Final = ("int_value", "double_value", "string_value", "bool_value")
INTEGERS: Final = st.integers(-3, 6)
DOUBLES: Final = st.integers(-8, 8).map(lambda number: number / 4)
TEXTS: Final = st.sampled_from(NAMES)

_VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "int_value": INTEGERS | st.sampled_from((2**31 - 1, -(2**31))),
    "double_value": DOUBLES,
    "string_value": TEXTS,
    "bool_value": st.booleans(),
}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A store of a few nodes with all sorts of links."""
    world = World(types=dict.fromkeys(KINDS, TYPES), nodes={kind: {} for kind in KINDS})
    for kind in KINDS:
        taken: set[tuple[str, str]] = set()
        for node_id in range(1, draw(st.integers(1, 4)) + 1):
            type_ = draw(st.sampled_from(TYPES))
            name = draw(TEXTS if kind is CONTEXT else TEXTS | st.none())
            if (type_, name) in taken:
                name = f"n{node_id}"
            taken.add((type_, name))
            fields: dict[str, Any] = {
                "id": node_id,
                "type": type_,
                "type_id": world.type_id(kind, type_),
                "name": name,
                "external_id": draw(st.sampled_from((None, f"a{node_id}"))),
                "create_time_since_epoch": draw(st.integers(0, 5)),
                "last_update_time_since_epoch": draw(st.integers(0, 5)),
            }
            if kind.state is not None:
                fields[kind.state] = draw(st.none() | st.integers(0, 4))
            if kind.has_uri:
                fields["uri"] = draw(st.none() | TEXTS)
            names = draw(st.lists(st.tuples(st.booleans(), st.sampled_from(PROPERTIES)), max_size=5, unique=True))
            columns = {key: draw(st.sampled_from(COLUMNS)) for key in names}
            world.nodes[kind][node_id] = Node(
                fields=fields, properties={key: (column, draw(_VALUES[column])) for key, column in columns.items()}
            )
    pairs = {
        kind: st.sets(
            st.tuples(st.sampled_from(list(world.nodes[CONTEXT])), st.sampled_from(list(world.nodes[kind]))), max_size=5
        )
        for kind in KINDS
    }
    world.attributions = draw(pairs[ARTIFACT])
    world.associations = draw(pairs[EXECUTION])
    world.parents = draw(pairs[CONTEXT])
    events = st.tuples(
        st.sampled_from(list(world.nodes[ARTIFACT])), st.sampled_from(list(world.nodes[EXECUTION])), st.integers(0, 7)
    )
    world.events = {(*event, draw(st.integers(0, 5))) for event in draw(st.sets(events, max_size=5))}
    return world


def quoted(text: str) -> st.SearchStrategy[str]:
    """A string as a filter may write it."""
    escaped = text.replace("\\", "\\\\")
    forms = ["'" + escaped.replace("'", "\\'") + "'", '"' + escaped.replace('"', '\\"') + '"']
    forms.append("'''" + escaped.replace("'", "\\'") + "'''")
    forms.append("'" + "".join(f"\\U{ord(sign):08x}" for sign in text) + "'")
    if not set(text) & set("'\\"):
        forms.append(f"r'{text}'")
    return st.sampled_from(forms)


def column_texts(kind: Kind, *, as_library: bool) -> dict[Type, list[str]]:
    """The columns of a kind by their type, as filters write them."""
    found: dict[Type, list[str]] = {type_: [] for type_ in Type}

    def add(text: str, field: Field) -> None:
        found[field.type].append(text)

    for field in NODE_FIELDS[kind].values():
        add(field.name, field)
        add(f"`{field.name.upper()}`", field)
    for relation, fields in NEIGHBOUR_FIELDS[kind].items():
        for alias in ALIASES:
            for field in fields.values():
                if as_library and (relation.value, field.name) in _FAULTY:
                    continue
                add(f"{relation.value}_{alias}.{field.name}", field)
    for relation in (Relation.PROPERTY, Relation.CUSTOM_PROPERTY):
        for name in EXAMPLE_PROPERTIES if as_library else PROPERTIES:
            written = name if name.isidentifier() else "`" + name.replace("`", "\\`") + "`"
            for column, type_ in zip(COLUMNS, (Type.INT64, Type.DOUBLE, Type.STRING, Type.BOOL), strict=True):
                found[type_].append(f"{relation.value}.{written}.{column}")
    return found


def enum_texts(kind: Kind) -> list[tuple[str, list[str]]]:
    """The columns that are compared with names, and the names."""
    found = [(field.name, list(field.names)) for field in NODE_FIELDS[kind].values() if field.names]
    for relation, fields in NEIGHBOUR_FIELDS[kind].items():
        for field in fields.values():
            if field.names:
                found += [(f"{relation.value}_{alias}.{field.name}", list(field.names)) for alias in ALIASES]
    return found


_CONDITIONS: Final = (
    "and",
    "or",
    "not",
    "compare",
    "compare",
    "in",
    "between",
    "like",
    "null",
    "truth",
    "case",
    "same",
)
_OUR_CONDITIONS: Final = ("enum", "affix", "exists")


class _Texts:
    """Draws texts of expressions over a kind's nodes."""

    def __init__(self, draw: st.DrawFn, kind: Kind, *, as_library: bool) -> None:
        self.draw = draw
        self.kind = kind
        self.as_library = as_library
        # A few columns a filter, so that conditions often speak of the same rows.
        self.columns = {
            type_: draw(st.lists(st.sampled_from(texts), min_size=1, max_size=2))
            for type_, texts in column_texts(kind, as_library=as_library).items()
            if texts
        }
        self.texts = TEXTS
        if as_library:
            self.texts = EXAMPLE_TEXTS | TEXTS.filter(lambda text: not set(text) & _PRINTED and text != "name")

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def boolean(self, depth: int) -> str:
        if depth <= 0:
            return str(self.pick(*self.columns[Type.BOOL], "TRUE", "false", "(NULL IS NULL)", "(id = 1)"))
        match self.pick(*_CONDITIONS, *(() if self.as_library else _OUR_CONDITIONS)):
            case "and" | "or" as word:
                parts = [self.boolean(depth - 1) for _ in range(self.pick(2, 2, 3))]
                return "(" + f" {word.upper()} ".join(parts) + ")"
            case "not":
                return f"(NOT {self.boolean(depth - 1)})"
            case "in":
                type_ = self.pick(Type.INT64, Type.STRING, Type.DOUBLE)
                items = [self.value(type_, depth - 1) for _ in range(self.pick(1, 2, 3))]
                if self.pick(False, False, True):
                    items.append("NULL")
                return f"({self.value(type_, depth - 1)}{self.pick('', ' NOT')} IN ({', '.join(items)}))"
            case "between":
                type_ = self.pick(Type.INT64, Type.STRING, Type.DOUBLE)
                value, low, high = (self.value(type_, depth - 1) for _ in range(3))
                return f"({value}{self.pick('', ' NOT')} BETWEEN {low} AND {high})"
            case "like":
                escapes = () if self.as_library else ("\\\\%", "\\\\_")
                signs = self.draw(st.lists(st.sampled_from(("%", "_", "a", "A", "B", "é", "x", *escapes)), max_size=4))
                return f"({self.value(Type.STRING, depth - 1)}{self.pick('', ' not')} like '{''.join(signs)}')"
            case "null":
                type_ = self.pick(Type.INT64, Type.STRING, Type.DOUBLE, Type.BOOL)
                return f"({self.value(type_, depth - 1)} IS {self.pick('', 'NOT ')}NULL)"
            case "truth":
                return f"({self.boolean(depth - 1)} IS {self.pick('', 'NOT ')}{self.pick('TRUE', 'FALSE', 'UNKNOWN')})"
            case "enum" if enum_texts(self.kind):
                column, names = self.pick(*enum_texts(self.kind))
                if self.pick(True, False):
                    return f"({column} {self.pick('=', '!=')} {self.pick(*names)})"
                listed = self.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
                return f"({column}{self.pick('', ' NOT')} IN ({', '.join(listed)}))"
            case "case":
                return self.case(Type.BOOL, depth)
            case "affix":
                text = self.draw(quoted(self.draw(self.texts)))
                return f"{self.pick('starts_with', 'ends_with')}({self.value(Type.STRING, depth - 1)}, {text})"
            case "same":
                return f"({self.boolean(depth - 1)} {self.pick('=', '!=', '<')} {self.boolean(depth - 1)})"
            case "exists" if self.pick(False, False, True):
                return f"EXISTS (SELECT {self.boolean(depth - 1)})"
            case _:
                types = self.pick(
                    (Type.INT64, Type.INT64),
                    (Type.STRING, Type.STRING),
                    (Type.DOUBLE, Type.INT64),
                    (Type.INT64, Type.DOUBLE),
                )
                left, right = (self.value(type_, depth - 1) for type_ in types)
                return f"({left} {self.pick('=', '=', '!=', '<>', '<', '<=', '>', '>=')} {right})"

    def value(self, type_: Type, depth: int) -> str:
        if type_ is Type.BOOL:
            return self.boolean(depth)
        if depth <= 0 or self.pick(True, True, False):
            if self.pick(True, True, False):
                # In parentheses, as a number would be refused beside a bare `state`.
                return f"({self.pick(*self.columns[type_])})"
            return self.literal(type_)
        match type_:
            case Type.INT64:
                return self.integer(depth)
            case Type.DOUBLE:
                return self.double(depth)
            case _:
                return self.string(depth)

    def literal(self, type_: Type) -> str:
        match type_:
            case Type.INT64:
                number = self.draw(INTEGERS)
                return hex(number) if self.pick(False, False, True) else str(number)
            case Type.DOUBLE:
                return repr(self.draw(DOUBLES))
            case _:
                return str(self.draw(quoted(self.draw(self.texts))))

    def case(self, type_: Type, depth: int) -> str:
        values = [self.value(type_, depth - 1) for _ in range(3)]
        otherwise = self.pick(f" ELSE {values[2]}", "")
        if self.pick(True, False):
            first, second = self.boolean(depth - 1), self.boolean(depth - 1)
            return f"(CASE WHEN {first} THEN {values[0]} WHEN {second} THEN {values[1]}{otherwise} END)"
        compared = self.pick(Type.INT64, Type.STRING, Type.BOOL)
        operand, first, second = (self.value(compared, depth - 1) for _ in range(3))
        return f"(CASE {operand} WHEN {first} THEN {values[0]} WHEN {second} THEN {values[1]}{otherwise} END)"

    def choose(self, alike: Sequence[Callable[[], str]], ours: Sequence[Callable[[], str]]) -> str:
        """One of the texts; those of `ours` only when they are not meant for the library."""
        text: Callable[[], str] = self.pick(*alike, *(() if self.as_library else ours))
        return text()

    def same_type(self, type_: Type, depth: int) -> str | None:
        def value() -> str:
            return self.value(type_, depth - 1)

        if self.pick(True, True, False):
            return None
        return self.choose(
            [
                lambda: f"coalesce({value()}, {value()}, {value()})",
                lambda: f"ifnull({value()}, {value()})",
                lambda: f"nullif({value()}, {value()})",
                lambda: self.case(type_, depth),
            ],
            [
                lambda: f"if({self.boolean(depth - 1)}, {value()}, {value()})",
                lambda: f"greatest({value()}, {value()}, {value()})",
                lambda: f"least({value()}, {value()})",
                lambda: f"(SELECT {value()})",
            ],
        )

    def integer(self, depth: int) -> str:
        if (found := self.same_type(Type.INT64, depth)) is not None:
            return found

        def value() -> str:
            return self.value(Type.INT64, depth - 1)

        def text() -> str:
            return self.value(Type.STRING, depth - 1)

        return self.choose(
            [
                lambda: f"({value()} + {value()})",
                lambda: f"({value()} - {value()})",
                lambda: f"({value()} * {value()})",
                lambda: f"(- {value()})",
                lambda: f"abs({value()})",
                lambda: f"length({text()})",
            ],
            [
                lambda: f"mod({value()}, {value()})",
                lambda: f"div({value()}, {value()})",
                lambda: f"strpos({text()}, {text()})",
                lambda: f"CAST({self.boolean(depth - 1)} AS INT64)",
            ],
        )

    def double(self, depth: int) -> str:
        if (found := self.same_type(Type.DOUBLE, depth)) is not None:
            return found

        def value() -> str:
            return self.value(Type.DOUBLE, depth - 1)

        def integer() -> str:
            return self.value(Type.INT64, depth - 1)

        return self.choose(
            [
                lambda: f"({value()} + {integer()})",
                lambda: f"({integer()} - {value()})",
                lambda: f"({value()} * {integer()})",
                lambda: f"({integer()} / {value()})",
                lambda: f"abs({value()})",
            ],
            [lambda: f"CAST({integer()} AS float64)"],
        )

    def string(self, depth: int) -> str:
        if (found := self.same_type(Type.STRING, depth)) is not None:
            return found

        def value() -> str:
            return self.value(Type.STRING, depth - 1)

        def number() -> int:
            return self.draw(st.integers(-4, 4))

        return self.choose(
            [
                lambda: f"lower({value()})",
                lambda: f"upper({value()})",
                lambda: f"trim({value()})",
                lambda: f"ltrim({value()})",
                lambda: f"rtrim({value()}, 'a b')",
                lambda: (
                    f"replace({self.value(Type.STRING, 0)}, {self.literal(Type.STRING)}, {self.literal(Type.STRING)})"
                ),
                lambda: f"substr({value()}, {abs(number()) + 1}, {abs(number())})",
            ],
            [
                lambda: f"concat({value()}, {value()}, {value()})",
                lambda: f"({value()} || {value()})",
                lambda: f"substr({value()}, {number()})",
                lambda: f"substr({value()}, {number()}, {number()})",
                lambda: f"CAST({self.value(Type.INT64, depth - 1)} AS STRING)",
            ],
        )


@st.composite
def filters(draw: st.DrawFn, kind: Kind, *, depth: int = 3, as_library: bool = False) -> str:
    """A filter over nodes of a kind; `as_library`, one that the library can answer as it should."""
    return _Texts(draw, kind, as_library=as_library).boolean(draw(st.integers(1, depth)))
