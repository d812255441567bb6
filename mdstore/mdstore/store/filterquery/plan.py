"""How a filter is answered: which of its parts to begin with.

PostgreSQL and MySQL know how many rows a condition meets and choose themselves. SQLite knows only after ANALYZE, which
makes walks along events slow, so it gets a plan: the parts that an index serves are counted, each up to a limit, in one
statement of a fraction of a millisecond; the one with the fewest rows begins, unless the list's own scope (the members
of a context, the nodes of a type) has fewer; and where all of them are many, the list is walked in its order until the
page is full. The rest of the parts are looked up per node.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, bindparam, case, func, literal_column, select

from mdstore.errors import InvalidArgument
from mdstore.store import tables
from mdstore.store.dialects.filters import FilterSQL
from mdstore.store.filterquery.checking import check
from mdstore.store.filterquery.conditions import Conditions
from mdstore.store.filterquery.expressions import Expression
from mdstore.store.filterquery.parts import Part, Parts, asked_of_rows, cut, has_index, is_unique, size
from mdstore.store.filterquery.rendering import parameter
from mdstore.store.filterquery.syntax import FilterFault, fault
from mdstore.store.fragments import unplanned
from mdstore.store.kinds import ARTIFACT, EXECUTION, Kind
from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Transaction

FEW: Final = 200
"""Rows of which it does not matter how many there are."""
MANY: Final = 10_000
"""Beginning with so many rows ends no sooner than walking the list in its order until the page is full."""
MOST_TEXT_KEPT: Final = 4_096
"""Characters of a filter whose reading is remembered."""

MOST_PARTS: Final = 150
"""Looks into the rows of properties and neighbours that one statement may take."""

_MEMBERS: Final = {ARTIFACT: tables.ATTRIBUTION, EXECUTION: tables.ASSOCIATION}


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter query that was read and checked.

    `expression` is its shape: filters of one shape differ in their `values` only and share their statements.
    """

    kind: Kind
    expression: Expression
    values: Sequence[int | float | str]

    @property
    def parameters(self) -> Mapping[str, int | float | str]:
        """What its statements are run with."""
        return {parameter(slot): value for slot, value in enumerate(self.values)}


def read(kind: Kind, text: str | bytes) -> Filter:
    """Read a filter over nodes of a kind.

    Args:
        kind: of the nodes.
        text: the filter; bytes when it is not UTF-8, as protobuf gives such a text.

    Raises:
        InvalidArgument: it is none; the message says where and what to write instead.
    """
    if isinstance(text, bytes):
        raise InvalidArgument("the filter query is not UTF-8")
    return _kept(kind, text) if len(text) <= MOST_TEXT_KEPT else _read(kind, text)


def _read(kind: Kind, text: str) -> Filter:
    try:
        from mdstore.store.filterquery.parsing import parse  # noqa: PLC0415 (2 MiB that not every server needs)

        found = Filter(kind, *check(kind, parse(text)))
        if size(_parts(found.expression)) > MOST_PARTS:
            fault("the filter has too many alternatives over properties and neighbours", 0, "ask in several calls")
    except FilterFault as wrong:
        raise wrong.in_text(text) from None
    return found


_kept = lru_cache(1024)(_read)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a list is restricted to beside its filter."""

    name: str = ""
    """"", "type" or "context"."""
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The shape of a statement: it can be kept for all filters and scopes of the same."""

    kind: Kind
    sql: FilterSQL
    scope: str
    expression: Expression
    begin: int | None
    """Which part to begin with; None for the list itself."""
    along_scope: bool
    """Whether the statement goes along the list's scope; else it looks at each node whether it is in the scope."""
    scope_is_large: bool = True
    """Whether the scope may have more nodes than can be sorted at once."""
    density: float = field(default=0.0, compare=False)
    """Of the nodes of a list that has no scope, about which share the part to begin with meets; 0.0 when unknown."""
    fewest: int = field(default=0, compare=False)
    """How many that are."""

    def walking(self) -> "Plan":
        """The same along the list's order."""
        return replace(self, along_scope=False, begin=None)

    def conditions(self) -> list[ColumnElement[bool]]:
        """On the node's row: the filter, and the scope where the statement does not go along it."""
        parts = _parts(self.expression)
        render = Conditions(self.kind, self.sql)
        found = [] if self.along_scope or not self.scope else [inside(self.kind, self.scope)]
        if self.begin is None:
            return [*found, *render.holds(parts)]
        first = parts[self.begin]
        # What begins is all of a part, or less when the part has alternatives or compares a row with the node.
        is_whole = isinstance(first, Part) and asked_of_rows(first) is first.condition
        others = [part for part in parts if part is not first or not is_whole]
        return [render.begins(first), *found, *render.holds(tuple(others))]


def inside(kind: Kind, scope: str) -> ColumnElement[bool]:
    """Whether a node is in the scope "type" or "context", as a look at each node, with which no statement begins."""
    node = kind.table.c
    if scope == "type":
        return unplanned(node.type_id) == bindparam("scope")
    member = _MEMBERS[kind].alias("scoped")
    one: ColumnElement[int] = literal_column("1")
    found: Select[Any] = select(one).where(member.c.context_id == bindparam("scope"), member.c[kind.owner] == node.id)
    # Not EXISTS, for which MySQL and PostgreSQL know other ways.
    return found.correlate(kind.table).scalar_subquery() == one


@lru_cache(512)
def _parts(expression: Expression) -> Parts:
    return cut(expression)


def plan(tx: Transaction, found: Filter, scope: Scope) -> Plan:
    """Decide how to answer a filter; on SQLite that takes one statement at most."""
    known = Plan(found.kind, tx.filters, scope.name, found.expression, None, True)
    return known if tx.filters.knows_counts else _choose(tx, found, scope, known)


def _choose(tx: Transaction, found: Filter, scope: Scope, known: Plan) -> Plan:
    """The part to begin with, or None; whether to go along the scope, and how large that is."""
    parts = _parts(found.expression)
    indexed = [number for number, part in enumerate(parts) if has_index(part)]
    for number in indexed:
        if is_unique(parts[number]):
            return replace(known, begin=number, along_scope=False)
    if not indexed and not scope.name:
        return known
    counted = _counted(found.kind, tx.filters, scope.name, found.expression)
    ((newest, in_scope, *counts),) = tx.rows(counted, scope=scope.id, **found.parameters)
    fewest = min(counts, default=MANY)
    if fewest <= in_scope and fewest < MANY:
        density = fewest / newest if newest and not scope.name else 0.0
        begin = indexed[counts.index(fewest)]
        return replace(known, begin=begin, along_scope=False, density=density, fewest=fewest)
    # The nodes of a type are not kept in any order, so a page of many of them is sooner found in the list as a whole.
    is_large = in_scope >= MANY
    return replace(known, along_scope=scope.name != "type" or not is_large, scope_is_large=is_large)


@lru_cache(512)
def _counted(kind: Kind, sql: FilterSQL, scope: str, expression: Expression) -> Statement:
    """One row: the newest node, and how many the scope holds and each part with an index meets, up to a limit."""

    def make() -> Any:
        render = Conditions(kind, sql)
        counted = [render.found_by(part, ids=False) for part in _parts(expression) if has_index(part)]
        in_scope = [_in_scope(kind, scope)] if scope else []
        # First a short look: when it finds that anything is few, that is enough.
        looks = [_up_to(rows, literal_column(str(FEW))) for rows in (*in_scope, *counted)]
        few = select((func.min(*looks) if len(looks) > 1 else looks[0]).label("found")).cte("few")
        limit = select(case((few.c.found < FEW, FEW), else_=MANY)).scalar_subquery()
        columns = [_up_to(rows, limit) for rows in (*in_scope, *counted)]
        newest = select(func.max(kind.table.c.id)).scalar_subquery()
        return select(newest, *([] if scope else [literal_column(str(MANY))]), *columns)

    return Statement(make)


def _in_scope(kind: Kind, scope: str) -> Any:
    if scope == "type":
        return select(literal_column("1")).where(kind.table.c.type_id == bindparam("scope"))
    return select(literal_column("1")).where(_MEMBERS[kind].c.context_id == bindparam("scope"))


def _up_to(rows: Any, limit: Any) -> Any:
    return select(func.count()).select_from(rows.limit(limit).subquery()).scalar_subquery()


@lru_cache(512)
def _ids(plan: Plan, among: bool) -> Statement:
    node = plan.kind.table.c

    def make() -> Any:
        # As in lists, a node whose type is gone is not there.
        typed: Select[Any] = select(literal_column("1")).where(tables.TYPE.c.id == node.type_id)
        statement = select(node.id).where(*plan.conditions(), typed.correlate(plan.kind.table).exists())
        if among:
            statement = statement.where(OneOf(node.id, "among"))
        return statement.order_by(node.id).limit(bindparam("most"))

    return Statement(make)


def matching(tx: Transaction, kind: Kind, text: str, among: Collection[int] | None, most: int) -> Sequence[int]:
    """The ids of up to `most` nodes that match a filter, ascending; only of those `among` these, if given.

    Raises:
        InvalidArgument: as `read`.
    """
    found = read(kind, text)
    if among is not None:
        # Few, and each is looked at.
        chosen = Plan(kind, tx.filters, "", found.expression, None, True)
        rows = tx.rows(_ids(chosen, True), among=values(among), most=most, **found.parameters)
    else:
        rows = tx.rows(_ids(plan(tx, found, Scope()), False), most=most, **found.parameters)
    return [row[0] for row in rows]
