"""The reader's lists: a filter as SQL conditions, pages by keyset.

Every condition on another table is a semi-join (`id IN (SELECT ...)`), so that a node is never found twice, and
everything that comes from outside is bound.
"""

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, true
from sqlalchemy.sql.base import Executable

from mdstore.errors import InvalidArgument
from mdstore.store import tables
from mdstore.store.filters import NodeFilter, OrderBy
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind
from mdstore.store.operations import nodes
from mdstore.store.sql import by_code_point, compile_text
from mdstore.store.transaction import Row, Transaction
from mdstore.vocabulary import Property

_MEMBERS: Final = {ARTIFACT: tables.ATTRIBUTION, EXECUTION: tables.ASSOCIATION}

MOST_VALUES: Final = 10_000
"""In all lists of a filter: each is a parameter, once or twice, and SQLite takes 32,766."""
MOST_CHARACTERS: Final = 10_000
"""Of a part of a name: SQLite's patterns have 50,000 bytes at most."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is ordered by, and which way."""

    by: OrderBy
    descending: bool


def _like(text: str) -> str:
    """A LIKE pattern for texts that contain `text`."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{text}%"


def _has_property(kind: Kind, name: str, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    table = kind.property_table.c
    return kind.table.c.id.in_(
        select(table[kind.owner]).where(table.name == name, table.is_custom_property == true(), *conditions)
    )


def _check_size(where: NodeFilter) -> None:
    lists = (where.types, where.names, where.called, where.states, where.uris, where.in_contexts)
    given = sum(map(len, (*lists, *where.custom_properties.values())))
    if given > MOST_VALUES:
        raise InvalidArgument(f"the filter names {given} values, more than {MOST_VALUES}: ask in several requests")
    if where.name_contains and len(where.name_contains) > MOST_CHARACTERS:
        raise InvalidArgument(
            f"the part of a name has {len(where.name_contains)} characters, more than {MOST_CHARACTERS}"
        )


def _conditions(kind: Kind, where: NodeFilter) -> list[ColumnElement[bool]]:
    _check_size(where)
    table = kind.table.c
    values = kind.property_table.c.string_value
    found: list[ColumnElement[bool]] = []
    if where.types:
        types = select(tables.TYPE.c.id).where(
            tables.TYPE.c.type_kind == kind.type_kind, tables.TYPE.c.name.in_(where.types)
        )
        found.append(table.type_id.in_(types))
    if where.names:
        found.append(table.name.in_(where.names))
    if where.called:
        found.append(
            or_(
                table.name.in_(where.called),
                _has_property(kind, Property.DISPLAY_NAME, values.in_(where.called)),
            )
        )
    if where.name_contains:
        pattern = _like(where.name_contains)
        found.append(
            or_(
                table.name.ilike(pattern, escape="\\"),
                _has_property(kind, Property.DISPLAY_NAME, values.ilike(pattern, escape="\\")),
            )
        )
    if where.states:
        if kind.state is None:
            raise InvalidArgument("contexts have no state to filter by")
        found.append(table[kind.state].in_(where.states))
    if where.uris or where.uri_prefix:
        if not kind.has_uri:
            raise InvalidArgument(f"{kind.label}s have no uri to filter by")
        if where.uris:
            found.append(table.uri.in_(where.uris))
        if where.uri_prefix:
            # A range and not LIKE, which ignores case and so no index would serve it.
            uri = by_code_point(table.uri)
            found.append(
                and_(uri >= by_code_point(where.uri_prefix), uri < by_code_point(where.uri_prefix + "\U0010ffff"))
            )
    if where.in_contexts:
        found.append(table.id.in_(_members(kind, where.in_contexts, children_too=where.in_children_too)))
    for name, wanted in where.custom_properties.items():
        found.append(_has_property(kind, name, values.in_(wanted)))
    for name, (at_least, less_than) in where.custom_property_ranges.items():
        bounds = []
        if at_least is not None:
            bounds.append(by_code_point(values) >= by_code_point(at_least))
        if less_than is not None:
            bounds.append(by_code_point(values) < by_code_point(less_than))
        if bounds:
            found.append(_has_property(kind, name, *bounds))
    if where.created_from_ms is not None:
        found.append(table.create_time_since_epoch >= where.created_from_ms)
    if where.created_before_ms is not None:
        found.append(table.create_time_since_epoch < where.created_before_ms)
    return found


def restricts(kind: Kind, where: NodeFilter) -> bool:
    """Whether a filter has any condition; raises InvalidArgument for what nodes of this kind do not have."""
    return bool(_conditions(kind, where))


def _membership(kind: Kind) -> tuple[Any, Any, Any]:
    """The table that puts nodes of this kind into contexts, its column of the node and its column of the context."""
    if kind is CONTEXT:
        parents = tables.PARENT_CONTEXT
        return parents, parents.c.context_id, parents.c.parent_context_id
    member = _MEMBERS[kind]
    return member, member.c[kind.owner], member.c.context_id


def _members(kind: Kind, contexts: Collection[int], *, children_too: bool) -> Any:
    _, node, context = _membership(kind)
    wanted = context.in_(contexts)
    if children_too:
        _, child, parent = _membership(CONTEXT)
        wanted = or_(wanted, context.in_(select(child).where(parent.in_(contexts))))
    return select(node).where(wanted)


def _run(tx: Transaction, statement: Executable) -> Sequence[Row]:
    compiled = compile_text(statement, tx.dialect)
    return tx.text_rows(compiled.text, compiled.arguments({}))


def page(tx: Transaction, kind: Kind, where: NodeFilter, order: Order, most: int, after: str | None) -> Sequence[Row]:
    """Up to `most` rows as `nodes.messages` takes them, behind the cursor `after`."""
    statement = (
        select(*nodes.columns(kind))
        .select_from(kind.table.join(tables.TYPE, tables.TYPE.c.id == kind.table.c.type_id))
        .where(*_conditions(kind, where), *_having(kind, order), *_behind(kind, order, after))
        .order_by(*_ordering(kind, order))
        .limit(most)
    )
    return _run(tx, statement)


def page_in_each(
    tx: Transaction,
    kind: Kind,
    contexts: Collection[int],
    where: NodeFilter,
    order: Order,
    most: int,
    after: str | None,
) -> Sequence[Row]:
    """Of each context up to `most` of its members: rows of the context and what `nodes.messages` takes."""
    member, node, context = _membership(kind)
    found = nodes.columns(kind)
    ranked = (
        select(
            context.label("in_context"),
            *(column.label(f"column_{place}") for place, column in enumerate(found)),
            func.row_number().over(partition_by=context, order_by=_ordering(kind, order)).label("place"),
        )
        .select_from(
            kind.table.join(tables.TYPE, tables.TYPE.c.id == kind.table.c.type_id).join(member, node == kind.table.c.id)
        )
        .where(context.in_(contexts), *_conditions(kind, where), *_having(kind, order), *_behind(kind, order, after))
        .subquery()
    )
    columns = [ranked.c.in_context, *(ranked.c[f"column_{place}"] for place in range(len(found)))]
    return _run(tx, select(*columns).where(ranked.c.place <= most).order_by(ranked.c.in_context, ranked.c.place))


def count_in_each(tx: Transaction, kind: Kind, contexts: Collection[int], where: NodeFilter) -> Sequence[Row]:
    """Rows (context, how many of its members the filter leaves); a context without any is absent."""
    member, node, context = _membership(kind)
    source = member.join(kind.table, node == kind.table.c.id)
    return _run(
        tx,
        select(context, func.count())
        .select_from(source)
        .where(context.in_(contexts), *_conditions(kind, where))
        .group_by(context),
    )


def _ordering(kind: Kind, order: Order) -> list[Any]:
    table = kind.table.c
    columns = [table.id] if order.by is OrderBy.ID else [table[order.by.value], table.id]
    return [column.desc() if order.descending else column.asc() for column in columns]


def _having(kind: Kind, order: Order) -> list[ColumnElement[bool]]:
    """Without what they are ordered by, nodes have no place in a list that goes on from page to page."""
    if order.by is OrderBy.URI and not kind.has_uri:
        raise InvalidArgument(f"{kind.label}s have no uri to order by")
    return [kind.table.c[order.by.value].is_not(None)] if order.by in _TEXTS else []


def _behind(kind: Kind, order: Order, after: str | None) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    table = kind.table.c
    key: Any = table[order.by.value]
    at, node_id = _position(order, after)
    if order.by is OrderBy.ID:
        return [table.id < node_id if order.descending else table.id > node_id]
    if order.descending:
        return [and_(key <= at, or_(key < at, table.id < node_id))]
    return [and_(key >= at, or_(key > at, table.id > node_id))]


def count(tx: Transaction, kind: Kind, where: NodeFilter) -> int:
    """How many nodes the filter leaves."""
    conditions = _conditions(kind, where) or [literal(True)]
    ((number,),) = _run(tx, select(func.count()).select_from(kind.table).where(*conditions))
    return int(number)


def cursor(order: Order, node: Any) -> str:
    """Where the page after `node` begins."""
    at = 0 if order.by is OrderBy.ID else getattr(node, order.by.value)
    return base64.urlsafe_b64encode(f"{_mark(order)}:{node.id}:{at}".encode()).decode("ascii").rstrip("=")


def _mark(order: Order) -> str:
    return f"{order.by.name.lower()}{'-' if order.descending else '+'}"


def _position(order: Order, text: str) -> tuple[int | str, int]:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        mark, node_id, at = data.split(":", 2)
        position = at if order.by in _TEXTS else _integer(at), _integer(node_id)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"{text!r} is no cursor of this list") from error
    if mark != _mark(order):
        raise InvalidArgument(f"the cursor {text!r} belongs to a list in another order")
    return position


def _integer(text: str) -> int:
    """A number of 64 bits; raises ValueError for any other text."""
    number = int(text) if len(text) < 21 else 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(text)
    return number


_TEXTS: Final = (OrderBy.EXTERNAL_ID, OrderBy.URI)


def ids(tx: Transaction, kind: Kind, where: NodeFilter, most: int) -> list[int]:
    """The ids of up to `most` nodes that the filter leaves, ascending."""
    table = kind.table.c
    statement = select(table.id).where(*_conditions(kind, where)).order_by(table.id).limit(most)
    return [row[0] for row in _run(tx, statement)]
