"""Artifacts, executions and contexts: reading them by their keys.

Written once over the three kinds. Reads of whole nodes cost two statements whatever their number.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, select

from mdstore.errors import InvalidArgument, NotFound
from mdstore.store import tables
from mdstore.store.kinds import ARTIFACT, CONTEXT, Kind
from mdstore.store.properties import fill
from mdstore.store.sql import OneOf, Statement, asked_for, values
from mdstore.store.transaction import Row, Transaction

_TYPE = tables.TYPE.c
VALUE_COLUMNS: Final = ("int_value", "double_value", "string_value", "proto_value", "bool_value")


def columns(kind: Kind) -> list[Any]:
    """What `messages` needs of each node, in its order."""
    table = kind.table.c
    found = [
        table.id,
        table.type_id,
        table.name,
        table.external_id,
        table.create_time_since_epoch,
        table.last_update_time_since_epoch,
        _TYPE.name.label("type_name"),
    ]
    if kind.state is not None:
        found.append(table[kind.state])
    if kind.has_uri:
        found.append(table.uri)
    return found


def read_statement(kind: Kind, where: Callable[[], Any]) -> Statement:
    """A query for whole nodes, by id."""
    return Statement(
        lambda: (
            select(*columns(kind))
            .select_from(kind.table.join(tables.TYPE, _TYPE.id == kind.table.c.type_id))
            .where(where())
            .order_by(kind.table.c.id)
        )
    )


@cache
def nodes_by_ids(kind: Kind) -> Statement:
    """A query for the nodes of these `ids`, for `messages`."""
    return read_statement(kind, lambda: OneOf(kind.table.c.id, "ids"))


@cache
def locked_by_ids(kind: Kind) -> Statement:
    """The same, of nodes that are to be updated: nobody else changes them until the transaction ends.

    Of ours only one writes at a time; this is for other programs on the same database. On MySQL as the library locks
    what it reads: of two who want to update one node, one is told so by a deadlock.
    """
    return Statement(
        lambda: _locked(
            select(*columns(kind))
            .select_from(kind.table.join(tables.TYPE, _TYPE.id == kind.table.c.type_id))
            .where(OneOf(kind.table.c.id, "ids"))
            .order_by(kind.table.c.id),
            f"FOR NO KEY UPDATE OF {kind.table.name}",
        )
    )


@cache
def locked_properties_by_ids(kind: Kind) -> Statement:
    """As `properties_by_ids`: they go with `locked_by_ids`, and are as of now, not of the transaction's beginning."""
    return Statement(lambda: _locked(_properties(kind), ""))


def _locked(query: Select[Any], on_postgresql: str) -> Select[Any]:
    found = query.suffix_with("LOCK IN SHARE MODE", dialect="mysql")
    return found.suffix_with(on_postgresql, dialect="postgresql") if on_postgresql else found


@cache
def _by_external_ids(kind: Kind) -> Statement:
    return read_statement(kind, lambda: OneOf(kind.table.c.external_id, "external_ids"))


def _is_called(kind: Kind) -> ColumnElement[bool]:
    return and_(
        _TYPE.type_kind == kind.type_kind,
        _TYPE.name == bindparam("type_name"),
        _TYPE.version.is_not_distinct_from(bindparam("version")),
        kind.table.c.name == bindparam("node_name"),
    )


@cache
def _by_type_and_name(kind: Kind) -> Statement:
    return read_statement(kind, lambda: _is_called(kind))


@cache
def _properties_by_type_and_name(kind: Kind) -> Statement:
    return Statement(
        lambda: (
            select(*_property_columns(kind))
            .select_from(kind.table)
            .join(tables.TYPE, _TYPE.id == kind.table.c.type_id)
            .join(kind.property_table, kind.property_table.c[kind.owner] == kind.table.c.id)
            .where(_is_called(kind))
        )
    )


@cache
def properties_by_ids(kind: Kind) -> Statement:
    """A query for the properties of the nodes of these `ids`, for `messages`."""
    return Statement(lambda: _properties(kind))


def _property_columns(kind: Kind) -> list[Any]:
    table = kind.property_table.c
    return [table[kind.owner], table.name, table.is_custom_property, *(table[name] for name in VALUE_COLUMNS)]


def _properties(kind: Kind) -> Select[Any]:
    return select(*_property_columns(kind)).where(OneOf(kind.property_table.c[kind.owner], "ids"))


_BY_URIS: Final = read_statement(ARTIFACT, lambda: OneOf(ARTIFACT.table.c.uri, "uris"))


def messages(tx: Transaction, kind: Kind, rows: Iterable[Sequence[Any]]) -> list[Any]:
    """The nodes of these rows with their properties, in the order of the rows; one more statement."""
    found = _without_properties(kind, rows)
    return _filled(found, tx.rows(properties_by_ids(kind), ids=values(found)) if found else ())


def messages_at_last(tx: Transaction, kind: Kind, rows: Iterable[Sequence[Any]]) -> list[Any]:
    """The same, of an operation that asks nothing more."""
    found = _without_properties(kind, rows)
    return _filled(found, *tx.rows_at_last((properties_by_ids(kind), {"ids": values(found)}))) if found else []


def messages_of(kind: Kind, rows: Iterable[Sequence[Any]], properties: Iterable[Sequence[Any]]) -> list[Any]:
    """The nodes of these rows, with these rows of their properties."""
    return _filled(_without_properties(kind, rows), properties)


def _filled(found: dict[int, Any], properties: Iterable[Sequence[Any]]) -> list[Any]:
    for row in properties:
        # Some may be left of a node that is gone.
        node = found.get(row[0])
        if node is not None:
            fill(node, *row[1:])
    return list(found.values())


def _without_properties(kind: Kind, rows: Iterable[Sequence[Any]]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for row in rows:
        node = found[row[0]] = kind.message(
            id=row[0],
            type_id=row[1],
            type=row[6],
            create_time_since_epoch=row[4],
            last_update_time_since_epoch=row[5],
        )
        if row[2] is not None:
            node.name = row[2]
        if row[3] is not None:
            node.external_id = row[3]
        if kind.state is not None and row[7] is not None:
            setattr(node, kind.state, row[7])
        if kind.has_uri:
            node.uri = row[8] or ""
    return found


def locked(tx: Transaction, kind: Kind, ids: Collection[int]) -> list[Any]:
    """The nodes that have these ids, in the order of their ids, for who updates them."""
    if not ids:
        return []
    wanted = values(set(ids))
    rows = tx.rows(locked_by_ids(kind), ids=wanted)
    return messages_of(kind, rows, tx.rows(locked_properties_by_ids(kind), ids=wanted)) if rows else []


def by_ids(tx: Transaction, kind: Kind, ids: Collection[int]) -> list[Any]:
    """Those of the nodes that exist, each once, by id."""
    if not ids:
        return []
    return messages(tx, kind, tx.rows(nodes_by_ids(kind), ids=values(set(ids))))


def by_ids_at_last(tx: Transaction, kind: Kind, ids: Collection[int]) -> list[Any]:
    """The same, of an operation that asks nothing more."""
    if not ids:
        return []
    wanted = {"ids": values(set(ids))}
    return messages_of(kind, *tx.rows_at_last((nodes_by_ids(kind), wanted), (properties_by_ids(kind), wanted)))


def by_external_ids(tx: Transaction, kind: Kind, external_ids: Sequence[str]) -> list[Any]:
    """`Get*K*sByExternalIds`."""
    if not external_ids:
        return []
    if not all(external_ids):
        raise InvalidArgument("an external id is empty")
    found = find_by_external_ids(tx, kind, external_ids)
    if not found:
        raise NotFound(f"no {kind.label} has one of these external ids: {', '.join(external_ids)}")
    return found


def find_by_external_ids(tx: Transaction, kind: Kind, external_ids: Collection[str]) -> list[Any]:
    """Those of the nodes that exist, by id."""
    return messages(tx, kind, tx.rows(_by_external_ids(kind), external_ids=values(set(external_ids))))


def by_type_and_name(tx: Transaction, kind: Kind, type_name: str, version: str | None, name: str) -> Any | None:
    """The one node of this type and name, or None; of an operation that asks nothing more."""
    wanted = {
        "type_name": asked_for(type_name),
        "version": asked_for(version) or None,
        "node_name": asked_for(name),
    }
    (rows, properties) = tx.rows_at_last(
        (_by_type_and_name(kind), wanted), (_properties_by_type_and_name(kind), wanted)
    )
    found = messages_of(kind, rows[:1], properties)
    return found[0] if found else None


def by_uris(tx: Transaction, uris: Collection[str]) -> list[Any]:
    """Artifacts at exactly these URIs, by id."""
    if not uris:
        return []
    return messages(tx, ARTIFACT, tx.rows(_BY_URIS, uris=values(set(uris))))


@cache
def _times(kind: Kind) -> Statement:
    table = kind.table.c
    return Statement(lambda: select(table.id, table.last_update_time_since_epoch).where(OneOf(table.id, "ids")))


def update_times(tx: Transaction, kind: Kind, ids: Collection[int]) -> dict[int, int]:
    """Id -> update time of those of the nodes that exist."""
    return {row[0]: row[1] for row in tx.rows(_times(kind), ids=values(set(ids)))} if ids else {}


@cache
def _locked_times(kind: Kind) -> Statement:
    table = kind.table.c
    query = select(table.id, table.last_update_time_since_epoch).where(OneOf(table.id, "ids")).order_by(table.id)
    return Statement(lambda: _locked(query, "FOR NO KEY UPDATE"))


def locked_times(tx: Transaction, kind: Kind, ids: Collection[int]) -> dict[int, int]:
    """The same; nobody else changes these nodes until the transaction ends."""
    return {row[0]: row[1] for row in tx.rows(_locked_times(kind), ids=values(set(ids)))} if ids else {}


def existing(tx: Transaction, kind: Kind, ids: Collection[int]) -> set[int]:
    """The ids of those of the nodes that exist."""
    return set(update_times(tx, kind, ids))


@cache
def _ids_by_external_ids(kind: Kind) -> Statement:
    table = kind.table.c
    return Statement(lambda: select(table.external_id, table.id).where(OneOf(table.external_id, "external_ids")))


def ids_by_external_id(tx: Transaction, kind: Kind, external_ids: Collection[str]) -> dict[str, int]:
    """External id, as it is asked for -> id of those of the nodes that exist."""
    wanted = set(external_ids)
    rows = tx.rows(_ids_by_external_ids(kind), external_ids=values(wanted))
    found: dict[str, int] = {row[0]: row[1] for row in rows}
    if found.keys() - wanted:
        # MySQL may take `a` and `A` for one.
        for missing in wanted - found.keys():
            rows = tx.rows(_ids_by_external_ids(kind), external_ids=values([missing]))
            found.update((missing, row[1]) for row in rows)
    return {external_id: found[external_id] for external_id in wanted if external_id in found}


@cache
def ids_by_names(kind: Kind) -> Statement:
    """A query for rows (type id, name, id) of all nodes of these `type_ids` and these `names`."""
    table = kind.table.c
    return Statement(
        lambda: select(table.type_id, table.name, table.id).where(
            OneOf(table.type_id, "type_ids"), OneOf(table.name, "names")
        )
    )


def by_names(keys: Collection[tuple[int, str]]) -> dict[str, Any]:
    """The parameters of `ids_by_names` for these (type id, name)."""
    return {"type_ids": values({key[0] for key in keys}), "names": values({key[1] for key in keys})}


def ids_by_type_and_name(tx: Transaction, kind: Kind, keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """(type id, name) -> id of those nodes that exist."""
    known = tx.known.contexts if kind is CONTEXT else {}
    wanted = set(keys) - known.keys()
    found = {key: node_id for key in keys if (node_id := known.get(key)) is not None}
    if wanted:
        rows = tx.rows(ids_by_names(kind), **by_names(wanted))
        found.update(((row[0], row[1]), row[2]) for row in rows if (row[0], row[1]) in wanted)
        if has_others(rows, wanted):
            for key in wanted - found.keys():
                found.update((key, row[2]) for row in tx.rows(ids_by_names(kind), **by_names([key])))
    return found


def has_others(rows: Iterable[Row], keys: Collection[tuple[int, str]]) -> bool:
    """Whether the rows of `ids_by_names` have names that were not asked for: MySQL may take `a` and `A` for one."""
    names = {name for _, name in keys}
    return any(row[1] not in names for row in rows)
