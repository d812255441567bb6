"""Everything that MLMD's tables hold, page by page, in an order that another transaction can go on with.

Nodes come before the links between them, each table by its ids. What is written meanwhile behind the place is met
later, what is written before it is not: whoever goes on in another transaction learns of that from the change log.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import and_, bindparam, or_, select

from mdstore.store import tables
from mdstore.store.kinds import KINDS, Kind
from mdstore.store.operations import links, nodes, types
from mdstore.store.sql import Statement
from mdstore.store.transaction import Transaction
from mdstore.wire import changes

NODES: Final = 250
"""Nodes of a page, at most, unless the reader says otherwise."""
FEW_NODES: Final = 50
"""Of the first page: how large they are is not known yet."""
LINKS: Final = 1000
"""Links of a page, at most, unless the reader says otherwise; each is some 20 bytes."""
BYTES: Final = 512 * 1024
"""What a page of nodes is to have: the next one has fewer nodes when these were larger, and more when smaller."""


@dataclass(frozen=True, slots=True)
class Place:
    """Behind which row the next page begins."""

    part: int = 0
    """Of `PARTS`."""
    after: int = 0
    after_too: int = 0
    """Of links between contexts, which have no id, the child and the parent."""


PARTS: Final = ("artifact", "execution", "context", "event", "attribution", "association", "parent_context", "")
END: Final = Place(len(PARTS) - 1)


def of_types(tx: Transaction) -> changes.Changes:
    """All types, which come before the first place."""
    page = changes.Changes()
    for kind in KINDS:
        getattr(page, f"{kind.label}_types").extend(types.of_ids(tx, kind, type_ids(tx, kind)))
    return page


def everything(tx: Transaction) -> Iterator[changes.Changes]:
    """All that the store holds as this transaction sees it, in pages; memory is bounded by a page."""
    yield of_types(tx)
    pages = Pages()
    while pages.place.part < END.part:
        page = pages.next(tx)
        if page.ListFields():
            yield page


class Pages:
    """Pages from a place on. Threads: belongs to one."""

    def __init__(self, *, most_nodes: int = NODES, most_links: int = LINKS) -> None:
        """Begin at the beginning; `place` may be set.

        Args:
            most_nodes: of a page.
            most_links: of a page.
        """
        self.place = Place()
        self._most_nodes = most_nodes
        self._most_links = most_links
        self._nodes = min(FEW_NODES, most_nodes)

    def next(self, tx: Transaction) -> changes.Changes:
        """The page behind the place, which moves on; it may be empty at the end of a table, and at `END`."""
        place = self.place
        if place.part >= END.part:
            return changes.Changes()
        rows: Sequence[Sequence[Any]]
        if place.part < len(KINDS):
            kind, most = KINDS[place.part], self._nodes
            rows = tx.rows(_nodes_after(kind), after=place.after, most=most)
            page = _page_of_nodes(tx, kind, place.after, rows)
            if rows:
                self._nodes = max(1, min(self._most_nodes, 2 * most, len(rows) * BYTES // max(1, page.ByteSize())))
        else:
            most = self._most_links
            rows, page = _READERS[PARTS[place.part]](tx, place, most)
        if len(rows) < most:
            self.place = Place(place.part + 1)
        elif place.part == END.part - 1:
            self.place = Place(place.part, *rows[-1])
        else:
            self.place = Place(place.part, rows[-1][0])
        return page


_TYPE_IDS: Final = Statement(
    lambda: select(tables.TYPE.c.id).where(tables.TYPE.c.type_kind == bindparam("kind")).order_by(tables.TYPE.c.id)
)


def type_ids(tx: Transaction, kind: Kind) -> list[int]:
    """The ids of all types of nodes of this kind."""
    return [row[0] for row in tx.rows(_TYPE_IDS, kind=kind.type_kind)]


@cache
def _nodes_after(kind: Kind) -> Statement:
    # An outer join: SQLite and MariaDB might begin with the types otherwise, and sort all nodes for each page.
    return Statement(
        lambda: (
            select(*nodes.columns(kind))
            .select_from(kind.table.outerjoin(tables.TYPE, tables.TYPE.c.id == kind.table.c.type_id))
            .where(kind.table.c.id > bindparam("after"))
            .order_by(kind.table.c.id)
            .limit(bindparam("most"))
        )
    )


@cache
def _properties_between(kind: Kind) -> Statement:
    table = kind.property_table.c
    owner = table[kind.owner]
    return Statement(
        lambda: select(
            owner, table.name, table.is_custom_property, *(table[name] for name in nodes.VALUE_COLUMNS)
        ).where(owner > bindparam("after"), owner <= bindparam("last"))
    )


def _page_of_nodes(tx: Transaction, kind: Kind, after: int, rows: Sequence[Sequence[Any]]) -> changes.Changes:
    page = changes.Changes()
    if rows:
        properties = tx.rows(_properties_between(kind), after=after, last=rows[-1][0])
        # A node without a type is none that the library or we would show.
        found = nodes.messages_of(kind, [row for row in rows if row[6] is not None], properties)
        getattr(page, kind.nodes_field).extend(found)
        getattr(page, f"created_{kind.label}_ids").extend(node.id for node in found)
    return page


_Read = tuple[Sequence[Sequence[Any]], changes.Changes]
_E = tables.EVENT.c
_EVENTS: Final = Statement(
    lambda: (
        select(_E.id, _E.artifact_id, _E.execution_id, _E.type, _E.milliseconds_since_epoch)
        .where(_E.id > bindparam("after"))
        .order_by(_E.id)
        .limit(bindparam("most"))
    )
)
_AT: Final = tables.ATTRIBUTION.c
_ATTRIBUTIONS: Final = Statement(
    lambda: (
        select(_AT.id, _AT.context_id, _AT.artifact_id)
        .where(_AT.id > bindparam("after"))
        .order_by(_AT.id)
        .limit(bindparam("most"))
    )
)
_AS: Final = tables.ASSOCIATION.c
_ASSOCIATIONS: Final = Statement(
    lambda: (
        select(_AS.id, _AS.context_id, _AS.execution_id)
        .where(_AS.id > bindparam("after"))
        .order_by(_AS.id)
        .limit(bindparam("most"))
    )
)
_PC = tables.PARENT_CONTEXT.c
PARENTS: Final = Statement(
    lambda: (
        select(_PC.context_id, _PC.parent_context_id)
        .where(
            or_(
                _PC.context_id > bindparam("child"),
                and_(_PC.context_id == bindparam("child_too"), _PC.parent_context_id > bindparam("parent")),
            )
        )
        .order_by(_PC.context_id, _PC.parent_context_id)
        .limit(bindparam("most"))
    )
)
"""Links between contexts behind one of them, (child, parent)."""


def _events(tx: Transaction, place: Place, most: int) -> _Read:
    rows = tx.rows(_EVENTS, after=place.after, most=most)
    return rows, changes.Changes(events=links.event_messages(tx, rows))


def _attributions(tx: Transaction, place: Place, most: int) -> _Read:
    rows = tx.rows(_ATTRIBUTIONS, after=place.after, most=most)
    page = changes.Changes()
    for _, context, artifact in rows:
        page.attributions.add(context_id=context, artifact_id=artifact)
    return rows, page


def _associations(tx: Transaction, place: Place, most: int) -> _Read:
    rows = tx.rows(_ASSOCIATIONS, after=place.after, most=most)
    page = changes.Changes()
    for _, context, execution in rows:
        page.associations.add(context_id=context, execution_id=execution)
    return rows, page


def _parent_contexts(tx: Transaction, place: Place, most: int) -> _Read:
    rows = tx.rows(PARENTS, child=place.after, child_too=place.after, parent=place.after_too, most=most)
    page = changes.Changes()
    for child, parent in rows:
        page.parent_contexts.add(child_id=child, parent_id=parent)
    return rows, page


_READERS: Final = {
    "event": _events,
    "attribution": _attributions,
    "association": _associations,
    "parent_context": _parent_contexts,
}
