"""`Ingest`: what an observer saw, merged into the store in one transaction, whatever was there before."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import bindparam, select

from mdstore.errors import InvalidArgument
from mdstore.store import change_log, tables
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind
from mdstore.store.operations import links, nodes, putting, types, uses
from mdstore.store.operations.documents import put_documents
from mdstore.store.properties import check_text
from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Transaction
from mdstore.wire import ingestion, mlmd

# Where it is written which context a node is in, and by which columns: for a context, that is its parent.
_MEMBERS: Final = {
    ARTIFACT: (tables.ATTRIBUTION, "artifact_id", "context_id"),
    EXECUTION: (tables.ASSOCIATION, "execution_id", "context_id"),
    CONTEXT: (tables.PARENT_CONTEXT, "context_id", "parent_context_id"),
}
_E = tables.EVENT.c
_EVENTS_THERE: Final = Statement(
    lambda: select(_E.artifact_id, _E.execution_id, _E.type).where(
        OneOf(_E.execution_id, "execution_ids"), OneOf(_E.artifact_id, "artifact_ids")
    )
)


@cache
def _ids_in_context(kind: Kind) -> Statement:
    members, node, context = _MEMBERS[kind]
    return Statement(
        lambda: (
            select(members.c[node])
            .select_from(
                members.join(tables.CONTEXT, tables.CONTEXT.c.id == members.c[context]).join(
                    tables.TYPE, tables.TYPE.c.id == tables.CONTEXT.c.type_id
                )
            )
            .where(
                tables.TYPE.c.name == bindparam("type_name"),
                tables.CONTEXT.c.name == bindparam("context_name"),
                OneOf(members.c[node], "ids"),
            )
        )
    )


@cache
def _ids_by_external_id(kind: Kind) -> Statement:
    table = kind.table.c
    return Statement(lambda: select(table.external_id, table.id).where(OneOf(table.external_id, "external_ids")))


class _Resolver:
    """Keys of one kind to ids: of nodes that are there, and of those that this request creates."""

    def __init__(self, tx: Transaction, kind: Kind) -> None:
        self._tx = tx
        self._kind = kind
        self._by_id: dict[tuple[int, str, str, bool], int] = {}
        self._by_external_id: dict[str, int] = {}
        self._by_name: dict[tuple[str, str], int] = {}

    def load(self, keys: Sequence[ingestion.NodeKey], type_ids: dict[str, int]) -> None:
        """Look up all keys, in one statement per way of naming."""
        ids = [key for key in keys if key.id]
        if ids:
            self._load_ids(ids)
        external_ids = {key.external_id for key in keys if key.external_id}
        if external_ids:
            rows = self._tx.rows(_ids_by_external_id(self._kind), external_ids=values(external_ids))
            self._by_external_id.update((row[0], row[1]) for row in rows)
        names = {(key.type, key.name) for key in keys if key.name and key.type in type_ids}
        if names:
            wanted = {(type_ids[type_name], name): (type_name, name) for type_name, name in names}
            found = nodes.ids_by_type_and_name(self._tx, self._kind, wanted.keys())
            self._by_name.update((wanted[pair], node_id) for pair, node_id in found.items())

    def _load_ids(self, keys: Sequence[ingestion.NodeKey]) -> None:
        for guard in {_guard(key) for key in keys}:
            wanted = {key.id for key in keys if _guard(key) == guard}
            context_type, context_name, has_no_external_id = guard
            if context_type or context_name:
                rows = self._tx.rows(
                    _ids_in_context(self._kind), type_name=context_type, context_name=context_name, ids=values(wanted)
                )
                wanted = {row[0] for row in rows}
            there = wanted
            if has_no_external_id or not (context_type or context_name):
                found = nodes.by_ids(self._tx, self._kind, wanted)
                there = {node.id for node in found if not (has_no_external_id and node.HasField("external_id"))}
            self._by_id.update(((node_id, *guard), node_id) for node_id in there)

    def find(self, key: ingestion.NodeKey) -> int | None:
        """The id of the node that has this key, if any."""
        found = self._by_id.get((key.id, *_guard(key))) if key.id else None
        if found is None and key.external_id:
            found = self._by_external_id.get(key.external_id)
        if found is None and key.name:
            found = self._by_name.get((key.type, key.name))
        return found

    def is_taken(self, external_id: str) -> bool:
        """Whether a node has this external id."""
        return external_id in self._by_external_id

    def add(self, node: Any, node_id: int, type_name: str) -> None:
        """Remember a node that is new, or has got an external id, under what it is called by from now on."""
        if node.external_id:
            self._by_external_id.setdefault(node.external_id, node_id)
        if node.name:
            self._by_name.setdefault((type_name, node.name), node_id)

    def settle(self, ids: Sequence[int]) -> None:
        """Replace the places of new nodes by their ids."""
        self._by_external_id = {name: _settled(found, ids) for name, found in self._by_external_id.items()}
        self._by_name = {name: _settled(found, ids) for name, found in self._by_name.items()}


def _guard(key: ingestion.NodeKey) -> tuple[str, str, bool]:
    return key.in_context_type, key.in_context_name, key.has_no_external_id


def _settled(found: int, ids: Sequence[int]) -> int:
    return found if found >= 0 else ids[-found - 1]


def ingest(tx: Transaction, request: ingestion.IngestRequest) -> ingestion.IngestResponse:
    """`Ingest`: create or merge every node, then add the links that are missing."""
    change_log.sign(tx, request.origin or "ingest", request.actor)
    response = ingestion.IngestResponse()
    resolvers: dict[Kind, _Resolver] = {}
    for kind, records, ids, others in (
        (CONTEXT, request.contexts, response.context_ids, _context_keys(request)),
        (
            ARTIFACT,
            request.artifacts,
            response.artifact_ids,
            [*(event.artifact for event in request.events), *(link.member for link in request.attributions)],
        ),
        (
            EXECUTION,
            request.executions,
            response.execution_ids,
            [
                *(event.execution for event in request.events),
                *(use.execution for use in request.uses),
                *(link.member for link in request.associations),
            ],
        ),
    ):
        resolver = resolvers[kind] = _Resolver(tx, kind)
        if records or others:
            ids.extend(_merge_all(tx, kind, resolver, records, others))

    def named(kind: Kind, key: ingestion.NodeKey) -> int:
        found = resolvers[kind].find(key)
        if found is None:
            raise InvalidArgument(f"no {kind.label} has the key {_describe(key)}")
        return found

    events = [_event(record, named) for record in request.events]
    if request.uses:
        found = uses.resolve(tx, [(named(EXECUTION, use.execution), use) for use in request.uses], events)
        made = _merge_all(tx, ARTIFACT, resolvers[ARTIFACT], found.unknown, ())
        events += found.events(made)
    _add_events(tx, events)
    links.add_members(
        tx,
        ARTIFACT,
        [(named(CONTEXT, link.context), named(ARTIFACT, link.member)) for link in request.attributions],
        new_nodes=tx.changes.created_artifact_ids,
    )
    links.add_members(
        tx,
        EXECUTION,
        [(named(CONTEXT, link.context), named(EXECUTION, link.member)) for link in request.associations],
        new_nodes=tx.changes.created_execution_ids,
    )
    links.put_parents(
        tx,
        [
            mlmd.ParentContext(child_id=named(CONTEXT, link.member), parent_id=named(CONTEXT, link.context))
            for link in request.parents
        ],
        reuse=True,
    )
    put_documents(tx, request.documents)
    return response


def _context_keys(request: ingestion.IngestRequest) -> list[ingestion.NodeKey]:
    keys = [link.context for link in (*request.attributions, *request.associations, *request.parents)]
    return keys + [link.member for link in request.parents]


def _describe(key: ingestion.NodeKey) -> str:
    return " ".join(f"{field.name}={value!r}" for field, value in key.ListFields()) or "(empty)"


def _type_ids(tx: Transaction, kind: Kind, records: Iterable[Any], keys: Iterable[Any]) -> dict[str, int]:
    """Name -> id of the types that the records and keys name; those of records are created."""
    wanted = {record.type or record.key.type for record in records} - {""}
    found = types.ids_by_name(tx, kind, wanted | ({key.type for key in keys} - {""}))
    for name in sorted(wanted - found.keys()):
        found[name] = types.put_type(tx, kind, kind.type_message(name=name), can_add=True, can_omit=True)
    return found


def _merge_all(
    tx: Transaction,
    kind: Kind,
    resolver: _Resolver,
    records: Sequence[ingestion.NodeRecord],
    others: Sequence[ingestion.NodeKey],
) -> list[int]:
    keys = [*(record.key for record in records), *others]
    type_ids = _type_ids(tx, kind, records, keys)
    resolver.load(keys, type_ids)
    if not records:
        return []
    there = {found for record in records if (found := resolver.find(record.key)) is not None}
    stored = {node.id: node for node in nodes.locked(tx, kind, there)}
    merged: dict[int, Any] = {}
    new: list[Any] = []
    # A node that is created here has no id before all are known: it is called by its place, below zero.
    slots: list[int] = []
    for record in records:
        found = resolver.find(record.key)
        if found is None:
            node = _new(kind, record, type_ids)
            new.append(node)
            found = -len(new)
            resolver.add(node, found, record.type or record.key.type)
        elif found >= 0 and found not in merged:
            node = merged[found] = kind.message()
            node.CopyFrom(stored[found])
        else:
            node = merged[found] if found >= 0 else new[-found - 1]
        external_id = record.key.external_id
        if external_id and not node.HasField("external_id") and not resolver.is_taken(external_id):
            # Found by another name: from now on it is found by this one as well.
            node.external_id = external_id
            resolver.add(node, found, record.type or record.key.type)
        _merge(kind, node, record)
        slots.append(found)
    declared = putting.declarations_for(tx, kind, new, stored)
    putting.update_nodes(tx, kind, list(merged.values()), stored, declared)
    for node in new:
        putting.check_new(kind, node, declared)
    ids = putting.create(tx, kind, new, declared)
    resolver.settle(ids)
    return [_settled(found, ids) for found in slots]


def _new(kind: Kind, record: ingestion.NodeRecord, type_ids: dict[str, int]) -> Any:
    key = record.key
    type_name = record.type or key.type
    if not type_name:
        raise InvalidArgument(f"no {kind.label} has the key {_describe(key)}, and without a type it is not made")
    # What it is made with must be what it is found by, or the same request again would make another one.
    if not (key.external_id or key.name):
        raise InvalidArgument(f"no {kind.label} has the key {_describe(key)}, and without a name in it none is made")
    if key.name and (type_name != key.type or (record.name and record.name != key.name)):
        raise InvalidArgument(f"the new {kind.label} {_describe(key)} has another type or name than its key")
    node = kind.message(type_id=type_ids[type_name])
    name = record.name or key.name
    if name:
        node.name = check_text(f"the {kind.label}'s name", name)
    elif kind is CONTEXT:
        raise InvalidArgument(f"the new context {_describe(key)} has no name")
    if key.external_id:
        node.external_id = key.external_id
    return node


def _merge(kind: Kind, node: Any, record: ingestion.NodeRecord) -> None:
    if record.HasField("uri"):
        if not kind.has_uri:
            raise InvalidArgument(f"an {kind.label} has no uri")
        node.uri = record.uri
    if record.HasField("state"):
        _merge_state(kind, node, record)
    for name, value in record.custom_properties.items():
        node.custom_properties[name].CopyFrom(value)
    for name, value in record.default_custom_properties.items():
        if name not in node.custom_properties:
            node.custom_properties[name].CopyFrom(value)


def _merge_state(kind: Kind, node: Any, record: ingestion.NodeRecord) -> None:
    if kind.state is None:
        raise InvalidArgument(f"a {kind.label} has no state")
    if record.state not in kind.message.State.values():
        raise InvalidArgument(f"no {kind.label} can be in the state {record.state}")
    if kind is ARTIFACT:
        node.state = record.state
        return
    if node.HasField("last_known_state"):
        before, after = _rank(node.last_known_state), _rank(record.state)
        if before > after or (before == after == _FINAL and not record.overrides_final_state):
            return
    node.last_known_state = record.state


_FINAL: Final = mlmd.Execution.COMPLETE


def _rank(state: int) -> int:
    return min(state, _FINAL)


def _event(record: ingestion.EventRecord, named: Callable[[Kind, ingestion.NodeKey], int]) -> mlmd.Event:
    event = mlmd.Event(artifact_id=named(ARTIFACT, record.artifact), execution_id=named(EXECUTION, record.execution))
    if record.type not in mlmd.Event.Type.values() or not record.type:
        raise InvalidArgument(f"an event's type is {record.type}, which is none")
    event.type = record.type  # type: ignore[assignment]  # checked above
    if record.HasField("path"):
        event.path.CopyFrom(record.path)
    if record.time_ms:
        event.milliseconds_since_epoch = record.time_ms
    return event


def _add_events(tx: Transaction, events: Sequence[mlmd.Event]) -> None:
    if not events:
        return
    wanted: dict[tuple[int, int, int], mlmd.Event] = {}
    for event in events:
        wanted.setdefault((event.artifact_id, event.execution_id, event.type), event)
    there = {
        tuple(row)
        for row in tx.rows(
            _EVENTS_THERE,
            execution_ids=values({key[1] for key in wanted}),
            artifact_ids=values({key[0] for key in wanted}),
        )
    }
    links.insert_events(tx, [event for key, event in wanted.items() if key not in there])
