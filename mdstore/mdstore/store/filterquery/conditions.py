"""Parts of a filter as conditions on a node's row: semi-joins that SQL can take in any order."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, CompoundSelect, FromClause, Select, bindparam, literal_column, select, union_all

from mdstore.store import tables
from mdstore.store.dialects.filters import FilterSQL
from mdstore.store.filterquery.columns import Relation, Type
from mdstore.store.filterquery.expressions import Call, Column, Expression, Literal, Row
from mdstore.store.filterquery.parts import AnyOf, Part, Parts, asked_of_rows, has_index
from mdstore.store.filterquery.rendering import Renderer
from mdstore.store.fragments import Fragment, Piece, balanced, listed, unplanned
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind

_MEMBERS: Final = {ARTIFACT: tables.ATTRIBUTION, EXECUTION: tables.ASSOCIATION}
_NEIGHBOUR: Final = {
    Relation.CONTEXT: CONTEXT,
    Relation.PARENT: CONTEXT,
    Relation.CHILD: CONTEXT,
    Relation.ARTIFACT: ARTIFACT,
    Relation.EXECUTION: EXECUTION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where the rows of one property or neighbour come from."""

    table: FromClause
    node: ColumnElement[Any]
    """The id of the node that a row belongs to."""
    columns: Any
    """Of the neighbour itself."""
    kind: Kind | None
    """Of the neighbour, if it is a node."""
    where: Sequence[ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Renders parts for nodes of one kind on one database."""

    kind: Kind
    sql: FilterSQL

    def holds(self, parts: Parts) -> list[ColumnElement[bool]]:
        """Conditions on the node's row, none of which SQLite begins with."""
        apart = self._apart(parts)
        return [Fragment(balanced([self._one(part, apart=part in apart) for part in parts], " AND "))] if parts else []

    def _apart(self, parts: Parts) -> Collection[Part | AnyOf]:
        """What is asked of each node that the others leave, since the database could not plan all of it together."""
        most = self.sql.most_joined
        looks = [part for part in parts if isinstance(part, Part) and part.rows]
        if most is None or sum(len(part.rows) for part in looks) <= most:
            return ()
        apart = []
        # A statement may begin with what an index finds.
        for part in sorted(looks, key=lambda part: not has_index(part)):
            if len(part.rows) <= most:
                most -= len(part.rows)
            else:
                apart.append(part)
        return apart

    def begins(self, part: Part | AnyOf) -> ColumnElement[bool]:
        """A condition that `part` implies, written so that a statement can begin with it."""
        if isinstance(part, Part) and not part.rows:
            return Fragment(*self._narrowed(part, {}, self.kind.table.c))
        return self.kind.table.c.id.in_(self.found_by(part))

    def found_by(self, part: Part | AnyOf, *, ids: bool = True) -> Select[Any] | CompoundSelect[Any]:
        """The ids of the nodes of which a part may hold by what has an index in it; without `ids`, only their rows."""
        if isinstance(part, AnyOf):
            first = (next(inner for inner in inners if has_index(inner)) for inners in part.alternatives)
            return union_all(*(self.found_by(inner, ids=ids) for inner in first))
        if not part.rows:
            node = self.kind.table
            found: ColumnElement[Any] = node.c.id if ids else literal_column("1")
            return select(found).select_from(node).where(Fragment(*self._narrowed(part, {}, node.c)))
        (row,) = part.rows
        source = _source(self.kind, row, "r")
        narrowed = Fragment(*self._narrowed(part, {row: source}, source.columns))
        found = source.node if ids else literal_column("1")
        return select(found).select_from(source.table).where(*source.where, narrowed)

    def _one(self, part: Part | AnyOf, *, apart: bool = False) -> ColumnElement[bool]:
        if isinstance(part, AnyOf):
            alternatives = [
                balanced([self._one(inner) for inner in alternative], " AND ") for alternative in part.alternatives
            ]
            return Fragment(balanced(alternatives, " OR "))
        if not part.rows:
            assert part.condition is not None
            return Fragment(self._renderer({}, begins=False).render(part.condition))
        sources = {row: _source(self.kind, row, f"r{place}") for place, row in enumerate(part.rows)}
        node = self.kind.table.c
        inside: Select[Any] = select(literal_column("1")).select_from(*(source.table for source in sources.values()))
        for source in sources.values():
            inside = inside.where(source.node == node.id, *source.where)
        if part.condition is not None:
            inside = inside.where(Fragment(self._renderer(sources, begins=False).render(part.condition)))
        if apart:
            # PostgreSQL joins nothing with what is inside an OFFSET.
            inside = inside.offset(literal_column("0"))
        return inside.correlate(self.kind.table).exists()

    def _narrowed(self, part: Part, sources: dict[Row, _Source], columns: Any) -> list[Piece]:
        """The condition, and what lets the index (type_id, name) find a name whose type is not known."""
        asked = asked_of_rows(part)
        assert asked is not None
        pieces: list[Piece] = [self._renderer(sources, begins=True).render(asked)]
        kind = next((source.kind for source in sources.values()), self.kind)
        items = asked.args if isinstance(asked, Call) and asked.op == "and" else (asked,)
        typed = any(_picks(item, "type", "type_id") for item in items)
        if kind is not None and any(_picks(item, "name") for item in items) and not typed:
            types = select(tables.TYPE.c.id).where(tables.TYPE.c.type_kind == literal_column(str(kind.type_kind)))
            pieces += [" AND ", columns.type_id.in_(types)]
        return pieces

    def _renderer(self, sources: dict[Row, _Source], *, begins: bool) -> Renderer:
        plain = begins or self.sql.knows_counts

        def element(column: Column, name: str) -> Piece:
            columns = self.kind.table.c if column.row is None else sources[column.row].columns
            return columns[name] if plain else unplanned(columns[name])

        def render(column: Column) -> Piece:
            if column.name == "type" and column.type is Type.STRING:
                names = tables.TYPE.alias()
                owner = self.kind.table.c if column.row is None else sources[column.row].columns
                found = select(names.c.name).where(names.c.id == owner.type_id)
                return found.correlate_except(names).scalar_subquery()
            return element(column, column.name)

        def type_is(column: Column, names: Sequence[Piece]) -> Piece:
            kind = self.kind if column.row is None else _NEIGHBOUR[column.row.relation]
            types = tables.TYPE.alias()
            named = Fragment(self.sql.same(types.c.name), " IN (", *listed(names), ")")
            wanted = (
                select(types.c.id)
                .where(named, types.c.type_kind == literal_column(str(kind.type_kind)))
                .correlate_except(types)
            )
            return Fragment("(", element(column, "type_id"), " IN ", wanted.scalar_subquery(), ")")

        return Renderer(self.sql, render, type_is)


def _picks(item: Expression, *names: str) -> bool:
    """Whether a condition picks values of one of these columns."""
    if not isinstance(item, Call):
        return False
    if item.op == "or":
        return all(_picks(arg, *names) for arg in item.args)
    column, *values = item.args
    return (
        item.op in ("=", "in")
        and isinstance(column, Column)
        and column.name in names
        and all(isinstance(value, Literal) for value in values)
    )


def _source(kind: Kind, row: Row, alias: str) -> _Source:
    match row.relation:
        case Relation.PROPERTY | Relation.CUSTOM_PROPERTY:
            table = kind.property_table.alias(alias)
            custom = row.relation is Relation.CUSTOM_PROPERTY
            return _Source(
                table=table,
                node=table.c[kind.owner],
                columns=table.c,
                kind=None,
                where=(
                    table.c.name == bindparam(None, row.key, unique=True),
                    table.c.is_custom_property == bindparam(None, custom, unique=True),
                ),
            )
        case Relation.EVENT:
            table = tables.EVENT.alias(alias)
            return _Source(table=table, node=table.c[kind.owner], columns=table.c, kind=None, where=())
        case _:
            neighbour = _NEIGHBOUR[row.relation]
            links, node, other = _links(kind, row.relation, alias)
            found = neighbour.table.alias(alias)
            return _Source(
                table=links.join(found, found.c.id == other), node=node, columns=found.c, kind=neighbour, where=()
            )


def _links(kind: Kind, relation: Relation, alias: str) -> tuple[Any, ColumnElement[Any], ColumnElement[Any]]:
    """The table of links, its column of the node and its column of the neighbour."""
    if relation in (Relation.PARENT, Relation.CHILD):
        parents = tables.PARENT_CONTEXT.alias(f"{alias}_link")
        ends = parents.c.context_id, parents.c.parent_context_id
        return parents, *(ends if relation is Relation.PARENT else ends[::-1])
    member = kind if kind is not CONTEXT else _NEIGHBOUR[relation]
    members = _MEMBERS[member].alias(f"{alias}_link")
    return members, members.c[kind.owner], members.c[_NEIGHBOUR[relation].owner]
