"""Artifacts, executions and contexts: reading them by their keys, creating and updating them.

Written once over the three kinds. Reads cost two statements whatever their number, writes a constant number per
request.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import and_, bindparam, select

from mdstore.errors import FailedPrecondition, InvalidArgument, NotFound
from mdstore.store import tables
from mdstore.store.kinds import ARTIFACT, CONTEXT, Kind
from mdstore.store.operations import types
from mdstore.store.properties import PropertyRow, check_declared, check_text, fill, property_row, rows_of
from mdstore.store.sql import Conflict, Delete, Insert, OneOf, Statement, Update, values
from mdstore.store.transaction import Declaration, Transaction

MaskT = TypeVar("MaskT", bound=FieldMask)

_TYPE = tables.TYPE.c
_VALUE_COLUMNS: Final = ("int_value", "double_value", "string_value", "proto_value", "bool_value")


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
def _by_ids(kind: Kind) -> Statement:
    return read_statement(kind, lambda: OneOf(kind.table.c.id, "ids"))


@cache
def _by_external_ids(kind: Kind) -> Statement:
    return read_statement(kind, lambda: OneOf(kind.table.c.external_id, "external_ids"))


@cache
def _by_type_and_name(kind: Kind) -> Statement:
    return read_statement(
        kind,
        lambda: and_(
            _TYPE.type_kind == kind.type_kind,
            _TYPE.name == bindparam("type_name"),
            _TYPE.version.is_not_distinct_from(bindparam("version")),
            kind.table.c.name == bindparam("node_name"),
        ),
    )


@cache
def _properties(kind: Kind) -> Statement:
    table = kind.property_table.c
    return Statement(
        lambda: select(
            table[kind.owner], table.name, table.is_custom_property, *(table[name] for name in _VALUE_COLUMNS)
        ).where(OneOf(table[kind.owner], "ids"))
    )


_BY_URIS: Final = read_statement(ARTIFACT, lambda: OneOf(ARTIFACT.table.c.uri, "uris"))


def messages(tx: Transaction, kind: Kind, rows: Iterable[Sequence[Any]]) -> list[Any]:
    """The nodes of these rows with their properties, in the order of the rows; one more statement."""
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
    if found:
        for owner, *rest in tx.rows(_properties(kind), ids=values(found)):
            fill(found[owner], rest)
    return list(found.values())


def by_ids(tx: Transaction, kind: Kind, ids: Collection[int]) -> list[Any]:
    """Those of the nodes that exist, each once, by id."""
    if not ids:
        return []
    return messages(tx, kind, tx.rows(_by_ids(kind), ids=values(set(ids))))


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
    """The one node of this type and name, or None."""
    rows = tx.rows(
        _by_type_and_name(kind),
        type_name=type_name,
        version=version or None,
        node_name=name,
    )
    found = messages(tx, kind, rows[:1])
    return found[0] if found else None


def by_uris(tx: Transaction, uris: Collection[str]) -> list[Any]:
    """Artifacts at exactly these URIs, by id."""
    if not uris:
        return []
    return messages(tx, ARTIFACT, tx.rows(_BY_URIS, uris=values(set(uris))))


@cache
def _insert(kind: Kind) -> Insert:
    return Insert(kind.table, tuple(column.name for column in kind.table.columns if column.name != "id"))


@cache
def _put_property(kind: Kind, conflict: Conflict) -> Insert:
    return Insert(kind.property_table, (kind.owner, "name", "is_custom_property", *_VALUE_COLUMNS), conflict)


@cache
def _delete_property(kind: Kind) -> Delete:
    return Delete(kind.property_table, (kind.owner, "name", "is_custom_property"))


@cache
def _update(kind: Kind) -> Update:
    fixed = {"id", "type_id", "create_time_since_epoch"} | (set() if kind is CONTEXT else {"name"})
    return Update(kind.table, tuple(column.name for column in kind.table.columns if column.name not in fixed))


def _column(node: Any, name: str) -> Any:
    """A node's value for a column of its table; what is not set is NULL, but a URI is ''."""
    if name == "uri":
        return node.uri
    return getattr(node, name) if node.HasField(name) else None


def _check_texts(kind: Kind, node: Any, stored: Any) -> None:
    """Raise InvalidArgument for texts that cannot be stored; what `stored` has already, stays as it is."""
    for field in ("name", "external_id", "uri") if kind.has_uri else ("name", "external_id"):
        text = getattr(node, field)
        if text and text != getattr(stored, field):
            check_text(f"the {kind.label}'s {field}", text)
    for field in ("properties", "custom_properties"):
        there = getattr(stored, field)
        for name in getattr(node, field):
            if name not in there:
                check_text("a property's name", name)


def check_new(kind: Kind, node: Any, declared: dict[int, Declaration]) -> Declaration:
    """The type of a node to be created.

    Raises:
        InvalidArgument: no type id, no name of a context, or properties that do not fit the type.
        NotFound: no type of this kind has the id.
    """
    if not node.HasField("type_id"):
        raise InvalidArgument(f"Type id is missing: a new {kind.label} needs one")
    declaration = declared.get(node.type_id)
    if declaration is None:
        raise NotFound(f"no {kind.label} type has the id {node.type_id}")
    if kind is CONTEXT and not node.name:
        raise InvalidArgument("a context needs a name that is not empty")
    check_declared(declaration.name, declaration.properties, node.properties)
    return declaration


def create(tx: Transaction, kind: Kind, nodes: Sequence[Any], declared: dict[int, Declaration]) -> list[int]:
    """Create nodes, which must be checked; returns their ids in order.

    Raises:
        AlreadyExists: a type and name, or an external id, is taken.
    """
    if not nodes:
        return []
    names = _insert(kind).columns
    rows: list[list[Any]] = []
    images: list[Any] = []
    nothing = kind.message()
    for node in nodes:
        _check_texts(kind, node, nothing)
        now = tx.now_ms()
        image = kind.message()
        image.CopyFrom(node)
        image.DiscardUnknownFields()
        image.type = declared[node.type_id].name
        image.create_time_since_epoch = now
        image.last_update_time_since_epoch = now
        image.ClearField("system_metadata")
        if kind.has_uri:
            image.uri = node.uri
        images.append(image)
        rows.append([_column(image, name) for name in names])
    ids = tx.create(_insert(kind), rows)
    property_rows: list[PropertyRow] = []
    for node_id, node, image in zip(ids, nodes, images, strict=True):
        image.id = node_id
        property_rows += rows_of(node_id, node)
    tx.many(_put_property(kind, Conflict.FAIL), property_rows)
    getattr(tx.changes, kind.nodes_field).extend(images)
    getattr(tx.changes, f"created_{kind.label}_ids").extend(ids)
    return list(ids)


_UNSTORED: Final = ("type", "create_time_since_epoch", "last_update_time_since_epoch", "system_metadata")


def _wanted_full(kind: Kind, stored: Any, node: Any) -> Any:
    """What a node becomes by a full replace: the request, but what cannot change stays."""
    wanted = kind.message()
    wanted.CopyFrom(node)
    wanted.DiscardUnknownFields()
    wanted.ClearField("system_metadata")
    wanted.type_id = stored.type_id
    wanted.type = stored.type
    wanted.create_time_since_epoch = stored.create_time_since_epoch
    wanted.last_update_time_since_epoch = stored.last_update_time_since_epoch
    if kind is CONTEXT:
        if not node.name:
            raise InvalidArgument("a context needs a name that is not empty")
    elif stored.HasField("name"):
        wanted.name = stored.name
    else:
        wanted.ClearField("name")
    if kind.has_uri:
        wanted.uri = node.uri
    return wanted


def _wanted_masked(kind: Kind, stored: Any, node: Any, mask: Collection[str]) -> Any:
    """What a node becomes by an update of the paths in `mask`."""
    wanted = kind.message()
    wanted.CopyFrom(stored)
    for field in ("properties", "custom_properties"):
        theirs, ours = getattr(node, field), getattr(wanted, field)
        if field in mask:
            ours.clear()
            for name in theirs:
                ours[name].CopyFrom(theirs[name])
            continue
        prefix = field + "."
        for path in mask:
            name = path[len(prefix) :]
            if not path.startswith(prefix) or not name:
                continue
            if name in theirs:
                ours[name].CopyFrom(theirs[name])
            else:
                ours.pop(name, None)
    for field in ("uri", "state", "last_known_state", "external_id", "name"):
        if field not in mask or field not in kind.message.DESCRIPTOR.fields_by_name:
            continue
        if field == "name" and kind is not CONTEXT:
            continue
        if node.HasField(field):
            setattr(wanted, field, getattr(node, field))
        else:
            wanted.ClearField(field)
    if kind is CONTEXT and not wanted.name:
        raise InvalidArgument("a context needs a name that is not empty")
    if kind.has_uri and not wanted.HasField("uri"):
        wanted.uri = ""
    return wanted


def _masked_names(node: Any, mask: Collection[str]) -> list[str]:
    if "properties" in mask:
        return list(node.properties)
    return [path[len("properties.") :] for path in mask if path.startswith("properties.")]


def _moment(tx: Transaction, stored: Any, *, strictly_later: bool) -> int:
    now = tx.now_ms()
    return max(now, stored.last_update_time_since_epoch + 1) if strictly_later else now


def update_nodes(
    tx: Transaction,
    kind: Kind,
    nodes: Sequence[Any],
    stored_by_id: dict[int, Any],
    declared: dict[int, Declaration],
    *,
    mask: Collection[str] = (),
    force_update_time: bool = False,
    guarded: bool = False,
    strictly_later: bool = False,
) -> None:
    """Update nodes that are there.

    Args:
        tx: the transaction.
        kind: of the nodes.
        nodes: each with its id, each once.
        stored_by_id: what they are now; is kept up to date.
        declared: their types, by id.
        mask: paths to update; empty means to replace the node.
        force_update_time: the update time moves even if nothing changes.
        guarded: refuse nodes whose update time is not the one in the request; implies `strictly_later`.
        strictly_later: the update time grows, even within a millisecond.
    """
    rows: list[list[Any]] = []
    upserts: list[PropertyRow] = []
    deletes: list[tuple[int, str, bool]] = []
    images = getattr(tx.changes, kind.nodes_field)
    names = _update(kind).columns
    for node in nodes:
        stored = stored_by_id.get(node.id)
        if stored is None:
            raise InvalidArgument(f"Cannot find the given id: no {kind.label} has the id {node.id}")
        if node.HasField("type_id") and node.type_id != stored.type_id:
            raise InvalidArgument(
                f"{kind.label} {node.id} is of type {stored.type_id}, which cannot be changed to {node.type_id}"
            )
        declaration = declared[stored.type_id]
        check_declared(
            declaration.name, declaration.properties, node.properties, _masked_names(node, mask) if mask else None
        )
        if guarded and node.last_update_time_since_epoch != stored.last_update_time_since_epoch:
            raise FailedPrecondition(
                f"{kind.label} {node.id} was updated at {stored.last_update_time_since_epoch}, "
                f"not at {node.last_update_time_since_epoch}: read it again"
            )
        wanted = _wanted_masked(kind, stored, node, mask) if mask else _wanted_full(kind, stored, node)
        if wanted == stored and not force_update_time:
            continue
        _check_texts(kind, wanted, stored)
        wanted.last_update_time_since_epoch = _moment(tx, stored, strictly_later=guarded or strictly_later)
        for custom, before, after in (
            (False, stored.properties, wanted.properties),
            (True, stored.custom_properties, wanted.custom_properties),
        ):
            upserts.extend(_changed_properties(wanted.id, before, after, custom=custom))
            deletes.extend(_gone_properties(wanted.id, before, after, custom=custom))
        rows.append([*(_column(wanted, name) for name in names), wanted.id])
        stored_by_id[wanted.id] = wanted
        images.add().CopyFrom(wanted)
    tx.many(_update(kind), rows)
    tx.many(_delete_property(kind), deletes)
    tx.many(_put_property(kind, Conflict.REPLACE), upserts)


def _changed_properties(owner: int, stored: Any, wanted: Any, *, custom: bool) -> Iterable[PropertyRow]:
    for name in wanted:
        if name not in stored or stored[name] != wanted[name]:
            yield property_row(owner, name, custom, wanted[name])


def _gone_properties(owner: int, stored: Any, wanted: Any, *, custom: bool) -> Iterable[tuple[int, str, bool]]:
    return ((owner, name, custom) for name in stored if name not in wanted)


def read_for_update(tx: Transaction, kind: Kind, nodes: Iterable[Any]) -> dict[int, Any]:
    """The stored nodes among those that have an id, by id."""
    return {stored.id: stored for stored in by_ids(tx, kind, [node.id for node in nodes if node.HasField("id")])}


def declarations_for(
    tx: Transaction, kind: Kind, nodes: Iterable[Any], stored: dict[int, Any]
) -> dict[int, Declaration]:
    """The types of the nodes and of what is stored of them."""
    wanted = {node.type_id for node in nodes if node.HasField("type_id")} | {node.type_id for node in stored.values()}
    return types.declarations(tx, kind, wanted)


def put(
    tx: Transaction,
    kind: Kind,
    nodes: Sequence[Any],
    *,
    mask: Collection[str] = (),
    guarded: bool = False,
    strictly_later: bool = False,
    force_update_time: bool = False,
) -> list[int]:
    """`Put*K*s`: create the nodes without an id, update the others, in order; returns the ids."""
    stored = read_for_update(tx, kind, nodes)
    declared = declarations_for(tx, kind, nodes, stored)
    ids: list[int] = []
    for batch in _runs(nodes):
        if batch[0].HasField("id"):
            # A request may update what it has just created, if it guesses the id right.
            if late := {node.id for node in batch if node.id not in stored}.intersection(ids):
                stored.update((node.id, node) for node in by_ids(tx, kind, late))
            update_nodes(
                tx,
                kind,
                batch,
                stored,
                declared,
                mask=mask,
                force_update_time=force_update_time,
                guarded=guarded,
                strictly_later=strictly_later,
            )
            ids += [node.id for node in batch]
        else:
            for node in batch:
                check_new(kind, node, declared)
            ids += create(tx, kind, batch, declared)
    return ids


def _runs(nodes: Sequence[Any]) -> Iterable[list[Any]]:
    """Neighbours that can be written together: all new, or all there and each once; the order of a request counts."""
    batch: list[Any] = []
    seen: set[int] = set()
    for node in nodes:
        there = node.HasField("id")
        if batch and (batch[0].HasField("id") != there or (there and node.id in seen)):
            yield batch
            batch, seen = [], set()
        batch.append(node)
        if there:
            seen.add(node.id)
    if batch:
        yield batch


@cache
def _times(kind: Kind) -> Statement:
    table = kind.table.c
    return Statement(lambda: select(table.id, table.last_update_time_since_epoch).where(OneOf(table.id, "ids")))


def update_times(tx: Transaction, kind: Kind, ids: Collection[int]) -> dict[int, int]:
    """Id -> update time of those of the nodes that exist."""
    return {row[0]: row[1] for row in tx.rows(_times(kind), ids=values(set(ids)))} if ids else {}


def existing(tx: Transaction, kind: Kind, ids: Collection[int]) -> set[int]:
    """The ids of those of the nodes that exist."""
    return set(update_times(tx, kind, ids))


@cache
def _ids_by_external_ids(kind: Kind) -> Statement:
    table = kind.table.c
    return Statement(lambda: select(table.external_id, table.id).where(OneOf(table.external_id, "external_ids")))


def ids_by_external_id(tx: Transaction, kind: Kind, external_ids: Collection[str]) -> dict[str, int]:
    """External id -> id of those of the nodes that exist."""
    rows = tx.rows(_ids_by_external_ids(kind), external_ids=values(set(external_ids)))
    return {row[0]: row[1] for row in rows}


@cache
def _ids_by_names(kind: Kind) -> Statement:
    table = kind.table.c
    return Statement(
        lambda: select(table.type_id, table.name, table.id).where(
            OneOf(table.type_id, "type_ids"), OneOf(table.name, "names")
        )
    )


def ids_by_type_and_name(tx: Transaction, kind: Kind, keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """(type id, name) -> id of those nodes that exist."""
    if not keys:
        return {}
    rows = tx.rows(
        _ids_by_names(kind), type_ids=values({key[0] for key in keys}), names=values({key[1] for key in keys})
    )
    wanted = set(keys)
    return {(row[0], row[1]): row[2] for row in rows if (row[0], row[1]) in wanted}
