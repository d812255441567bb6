"""Artifacts, executions and contexts: creating and updating them.

Written once over the three kinds, in a constant number of statements for each request.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, Final

from mdstore.errors import FailedPrecondition, InvalidArgument, NotFound
from mdstore.store.kinds import CONTEXT, Kind
from mdstore.store.operations import types
from mdstore.store.operations.nodes import VALUE_COLUMNS, locked
from mdstore.store.properties import PropertyRow, check_declared, check_text, property_row, rows_of
from mdstore.store.sql import Conflict, Delete, Insert, Update
from mdstore.store.transaction import Declaration, Transaction

_UNIQUE: Final = ("name", "external_id")
"""Columns of nodes whose values are taken: of two updates of these, the order counts."""


@cache
def _insert(kind: Kind) -> Insert:
    return Insert(kind.table, tuple(column.name for column in kind.table.columns if column.name != "id"))


@cache
def _put_property(kind: Kind, conflict: Conflict) -> Insert:
    return Insert(kind.property_table, (kind.owner, "name", "is_custom_property", *VALUE_COLUMNS), conflict)


@cache
def _delete_property(kind: Kind) -> Delete:
    return Delete(kind.property_table, (kind.owner, "name", "is_custom_property"))


@cache
def _update(kind: Kind) -> Update:
    fixed = {"id", "type_id", "create_time_since_epoch", *_UNIQUE}
    return Update(kind.table, tuple(column.name for column in kind.table.columns if column.name not in fixed))


@cache
def _rename(kind: Kind) -> Update:
    return Update(kind.table, _UNIQUE if kind is CONTEXT else ("external_id",))


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
    for node_id, image in zip(ids, images, strict=True):
        image.id = node_id
        property_rows += rows_of(node_id, image)
    tx.later(_put_property(kind, Conflict.FAIL), property_rows)
    if kind is CONTEXT:
        for image in images:
            tx.known.has_created(image.type_id, image.name, image.id)
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
            if not path.startswith(prefix):
                continue
            name = path[len(prefix) :]
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
    wanted.DiscardUnknownFields()
    return wanted


def _masked_names(node: Any, mask: Collection[str]) -> list[str]:
    if "properties" in mask:
        return list(node.properties)
    return [path[len("properties.") :] for path in mask if path.startswith("properties.")]


def _moment(tx: Transaction, stored: Any) -> int:
    # Later than the one before also within a millisecond, or when the clock was put back: who read the node in between
    # and expects what it read must not overwrite what came after.
    before: int = stored.last_update_time_since_epoch
    return max(tx.now_ms(), before + 1)


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
        guarded: refuse nodes whose update time is not the one in the request.
    """
    rows: list[list[Any]] = []
    renamed: list[list[Any]] = []
    new: list[PropertyRow] = []
    replaced: list[PropertyRow] = []
    deletes: list[tuple[int, str, bool]] = []
    changed: list[tuple[Any, Any]] = []
    images = getattr(tx.changes, kind.nodes_field)
    for node in nodes:
        stored = stored_by_id.get(node.id)
        if stored is None:
            raise InvalidArgument(f"Cannot find the given id: no {kind.label} has the id {node.id}")
        if guarded and node.last_update_time_since_epoch != stored.last_update_time_since_epoch:
            raise FailedPrecondition(
                f"{kind.label} {node.id} was updated at {stored.last_update_time_since_epoch}, "
                f"not at {node.last_update_time_since_epoch}: read it again"
            )
        if node.HasField("type_id") and node.type_id != stored.type_id:
            raise InvalidArgument(
                f"{kind.label} {node.id} is of type {stored.type_id}, which cannot be changed to {node.type_id}"
            )
        declaration = declared[stored.type_id]
        check_declared(
            declaration.name, declaration.properties, node.properties, _masked_names(node, mask) if mask else None
        )
        wanted = _wanted_masked(kind, stored, node, mask) if mask else _wanted_full(kind, stored, node)
        if wanted == stored and not force_update_time:
            continue
        _check_texts(kind, wanted, stored)
        wanted.last_update_time_since_epoch = _moment(tx, stored)
        for custom, before, after in (
            (False, stored.properties, wanted.properties),
            (True, stored.custom_properties, wanted.custom_properties),
        ):
            for row in _changed_properties(wanted.id, before, after, custom=custom):
                (replaced if row[1] in before else new).append(row)
            deletes.extend(_gone_properties(wanted.id, before, after, custom=custom))
        rows.append([*(_column(wanted, name) for name in _update(kind).columns), wanted.id])
        if any(_column(wanted, name) != _column(stored, name) for name in _rename(kind).columns):
            renamed.append([*(_column(wanted, name) for name in _rename(kind).columns), wanted.id])
        stored_by_id[wanted.id] = wanted
        changed.append((stored, wanted))
        images.add().CopyFrom(wanted)
    tx.many(_rename(kind), renamed)
    tx.later(_update(kind), rows)
    tx.later(_delete_property(kind), deletes)
    # Not in place of another one whose name MySQL takes for the same.
    tx.later(_put_property(kind, Conflict.FAIL), new)
    tx.later(_put_property(kind, Conflict.REPLACE), replaced)
    for stored, wanted in changed:
        tx.known.has_updated(kind, wanted)
        if kind is CONTEXT and wanted.name != stored.name:
            tx.known.has_renamed(wanted.type_id, stored.name, wanted.name)


def _changed_properties(owner: int, stored: Any, wanted: Any, *, custom: bool) -> Iterable[PropertyRow]:
    for name in wanted:
        if name not in stored or stored[name] != wanted[name]:
            yield property_row(owner, name, custom, wanted[name])


def _gone_properties(owner: int, stored: Any, wanted: Any, *, custom: bool) -> Iterable[tuple[int, str, bool]]:
    return ((owner, name, custom) for name in stored if name not in wanted)


def read_for_update(tx: Transaction, kind: Kind, nodes: Iterable[Any]) -> dict[int, Any]:
    """The stored nodes among those that have an id, by id."""
    wanted = {node.id for node in nodes if node.HasField("id")}
    found = tx.known.stored(kind, wanted)
    found.update((stored.id, stored) for stored in locked(tx, kind, wanted - found.keys()))
    return found


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
                stored.update((node.id, node) for node in locked(tx, kind, late))
            update_nodes(
                tx,
                kind,
                batch,
                stored,
                declared,
                mask=mask,
                force_update_time=force_update_time,
                guarded=guarded,
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
