"""Events, attributions, associations and parent contexts: writing them and reading along them."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import literal_column, select

from mdstore.errors import AlreadyExists, InvalidArgument, NotFound
from mdstore.store import tables
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind
from mdstore.store.operations import nodes
from mdstore.store.properties import check_text
from mdstore.store.sql import Conflict, Insert, OneOf, Statement, values
from mdstore.store.transaction import Row, Transaction
from mdstore.wire import mlmd


@cache
def existing(kind: Kind) -> Statement:
    """A query for those of these `ids` that there are."""
    return Statement(lambda: select(kind.table.c.id).where(OneOf(kind.table.c.id, "ids")))


def require(tx: Transaction, kind: Kind, ids: Collection[int]) -> None:
    """Raise InvalidArgument unless all these nodes exist."""
    wanted = set(ids) - tx.known.existing[kind]
    if not wanted:
        return
    missing = wanted - {row[0] for row in tx.rows(existing(kind), ids=values(wanted))}
    if missing:
        raise InvalidArgument(f"no {kind.label} has the id {', '.join(map(str, sorted(missing)))}")


_INSERT_EVENT: Final = Insert(tables.EVENT, ("artifact_id", "execution_id", "type", "milliseconds_since_epoch"))
_INSERT_PATH: Final = Insert(tables.EVENT_PATH, ("event_id", "is_index_step", "step_index", "step_key"))
_E = tables.EVENT.c
_EVENT_COLUMNS: Final = (_E.id, _E.artifact_id, _E.execution_id, _E.type, _E.milliseconds_since_epoch)
_P = tables.EVENT_PATH.c
_PATHS: Final = Statement(
    # Steps have no key of their own: their order is the order of their rows.
    lambda: select(_P.event_id, _P.is_index_step, _P.step_index, _P.step_key).where(OneOf(_P.event_id, "ids"))
)


@cache
def _with_paths(kind: Kind, dialect: str) -> Statement:
    """The events of nodes, each once for every step of its path, or once without one."""
    # PostgreSQL takes the rows as it likes, and the others along the index of paths.
    order: tuple[Any, ...] = (_E.id, literal_column("eventpath.ctid")) if dialect == "postgresql" else ()
    return Statement(
        lambda: (
            select(*_EVENT_COLUMNS, _P.is_index_step, _P.step_index, _P.step_key)
            .select_from(tables.EVENT.outerjoin(tables.EVENT_PATH, _P.event_id == _E.id))
            .where(OneOf(_E[kind.owner], "ids"))
            .order_by(*order)
        )
    )


def check_event_type(event: mlmd.Event) -> None:
    """Raise InvalidArgument when an event has no type."""
    if not event.type:
        raise InvalidArgument("an event needs a type that is not UNKNOWN")


def insert_events(tx: Transaction, events: Sequence[mlmd.Event]) -> None:
    """Store events whose ids and types are checked.

    Raises:
        AlreadyExists: one of the same type between the same nodes is there.
    """
    if not events:
        return
    rows: list[Row] = []
    images: list[mlmd.Event] = []
    for event in events:
        image = mlmd.Event()
        image.CopyFrom(event)
        image.DiscardUnknownFields()
        image.ClearField("system_metadata")
        # A step that says nothing is no row, and so must not be in the log.
        if not all(step.WhichOneof("value") for step in event.path.steps):
            del image.path.steps[:]
            image.path.steps.extend(step for step in event.path.steps if step.WhichOneof("value"))
        if not image.path.steps:
            image.ClearField("path")
        if not image.HasField("milliseconds_since_epoch"):
            image.milliseconds_since_epoch = tx.now_ms()
        images.append(image)
        rows.append((image.artifact_id, image.execution_id, image.type, image.milliseconds_since_epoch))
    paths: list[Row] = []
    for event_id, event in zip(tx.create(_INSERT_EVENT, rows), events, strict=True):
        for step in event.path.steps:
            match step.WhichOneof("value"):
                case "index":
                    paths.append((event_id, True, step.index, None))
                case "key":
                    paths.append((event_id, False, None, check_text("a path's key", step.key)))
    tx.later(_INSERT_PATH, paths)
    tx.changes.events.extend(images)


def put_events(tx: Transaction, events: Sequence[mlmd.Event]) -> None:
    """`PutEvents`: all or none."""
    for event in events:
        if not event.HasField("artifact_id"):
            raise InvalidArgument("an event has no artifact_id")
        if not event.HasField("execution_id"):
            raise InvalidArgument("an event has no execution_id")
        check_event_type(event)
    require(tx, ARTIFACT, [event.artifact_id for event in events])
    require(tx, EXECUTION, [event.execution_id for event in events])
    insert_events(tx, events)


def event_messages(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[mlmd.Event]:
    """Rows (id, artifact, execution, type, time) with their paths, in the order of the rows; one more statement."""
    events = {row[0]: _event(*row[1:]) for row in rows}
    if events:
        for event_id, is_index, index, key in tx.rows(_PATHS, ids=values(events)):
            _add_step(events[event_id], is_index, index, key)
    return list(events.values())


def _event(artifact_id: int, execution_id: int, type_: Any, at_ms: int | None) -> mlmd.Event:
    event = mlmd.Event(artifact_id=artifact_id, execution_id=execution_id)
    event.type = type_  # may be a number that the enum does not have
    if at_ms is not None:
        event.milliseconds_since_epoch = at_ms
    return event


def _add_step(event: mlmd.Event, is_index: bool, index: int | None, key: str | None) -> None:
    if is_index:
        event.path.steps.add(index=index)
    else:
        event.path.steps.add(key=key)


def events_of(tx: Transaction, kind: Kind, ids: Collection[int]) -> list[mlmd.Event]:
    """The events of artifacts or of executions, by event id; one statement."""
    if not ids:
        return []
    events: dict[int, mlmd.Event] = {}
    (rows,) = tx.rows_at_last((_with_paths(kind, tx.dialect), {"ids": values(set(ids))}))
    for event_id, artifact_id, execution_id, type_, at_ms, is_index, index, key in rows:
        event = events.get(event_id)
        if event is None:
            event = events[event_id] = _event(artifact_id, execution_id, type_, at_ms)
        if is_index is not None:
            _add_step(event, is_index, index, key)
    return [events[event_id] for event_id in sorted(events)]


_MEMBERS: Final = {ARTIFACT: tables.ATTRIBUTION, EXECUTION: tables.ASSOCIATION}


_INSERT_MEMBER: Final = {
    kind: Insert(table, ("context_id", kind.owner), Conflict.KEEP) for kind, table in _MEMBERS.items()
}


def add_members(
    tx: Transaction, kind: Kind, pairs: Iterable[tuple[int, int]], *, new_nodes: Collection[int] = ()
) -> None:
    """Put nodes into contexts; pairs are (context, node), both of which must exist. Idempotent.

    Args:
        tx: the transaction.
        kind: of the nodes, artifact or execution.
        pairs: what belongs to what.
        new_nodes: nodes that this transaction created, and which so are in no context yet.
    """
    wanted = list(dict.fromkeys(pairs))
    # Asked by node: a node is in a few contexts, but a context may hold a million nodes.
    known = tx.known.contexts_of[kind]
    older = {node for _, node in wanted} - set(new_nodes) - known.keys()
    there = {(context, node) for node, context in context_ids_of(tx, kind, older)} if older else set()
    new = [pair for pair in wanted if pair not in there and pair[0] not in known.get(pair[1], ())]
    tx.later(_INSERT_MEMBER[kind], new)
    for context, node in new:
        tx.known.has_joined(kind, node, context)
        if kind is ARTIFACT:
            tx.changes.attributions.add(context_id=context, artifact_id=node)
        else:
            tx.changes.associations.add(context_id=context, execution_id=node)


def put_members(
    tx: Transaction, attributions: Sequence[mlmd.Attribution], associations: Sequence[mlmd.Association]
) -> None:
    """`PutAttributionsAndAssociations`."""
    for attribution in attributions:
        if not (attribution.HasField("artifact_id") and attribution.HasField("context_id")):
            raise InvalidArgument("an attribution needs artifact_id and context_id")
    for association in associations:
        if not (association.HasField("execution_id") and association.HasField("context_id")):
            raise InvalidArgument("an association needs execution_id and context_id")
    require(tx, ARTIFACT, [attribution.artifact_id for attribution in attributions])
    require(tx, EXECUTION, [association.execution_id for association in associations])
    contexts = [link.context_id for link in attributions] + [link.context_id for link in associations]
    require(tx, CONTEXT, contexts)
    add_members(tx, ARTIFACT, [(link.context_id, link.artifact_id) for link in attributions])
    add_members(tx, EXECUTION, [(link.context_id, link.execution_id) for link in associations])


@cache
def contexts_by_ids(kind: Kind) -> Statement:
    """A query for rows (node, context) of the artifacts or executions of these `ids`, by context."""
    table = _MEMBERS[kind].c
    return Statement(
        lambda: (
            select(table[kind.owner], table.context_id)
            .where(OneOf(table[kind.owner], "ids"))
            .order_by(table.context_id)
        )
    )


def context_ids_of(tx: Transaction, kind: Kind, ids: Collection[int]) -> Sequence[Sequence[int]]:
    """Rows (node, context) of artifacts or executions, by context."""
    return tx.rows(contexts_by_ids(kind), ids=values(set(ids)))


@cache
def _member_ids(kind: Kind) -> Statement:
    table = _MEMBERS[kind].c
    return Statement(
        lambda: (
            select(table.context_id, table[kind.owner])
            .where(OneOf(table.context_id, "ids"))
            .order_by(table.context_id, table[kind.owner])
        )
    )


def member_ids(tx: Transaction, kind: Kind, contexts: Collection[int]) -> Sequence[Sequence[int]]:
    """Rows (context, node): the artifacts or executions in these contexts, by context and id."""
    return tx.rows(_member_ids(kind), ids=values(set(contexts)))


def contexts_of(tx: Transaction, kind: Kind, node_id: int) -> list[Any]:
    """`GetContextsBy*K*`.

    Raises:
        NotFound: no context is linked, as the library answers.
    """
    found = [row[1] for row in context_ids_of(tx, kind, [node_id])]
    if not found:
        raise NotFound(f"no context holds the {kind.label} {node_id}")
    return nodes.by_ids_at_last(tx, CONTEXT, found)


_PC = tables.PARENT_CONTEXT.c
_INSERT_PARENT: Final = Insert(tables.PARENT_CONTEXT, ("context_id", "parent_context_id"))
_PARENTS: Final = Statement(
    lambda: (
        select(_PC.context_id, _PC.parent_context_id)
        .where(OneOf(_PC.context_id, "ids"))
        .order_by(_PC.parent_context_id)
    )
)
_CHILDREN: Final = Statement(
    lambda: (
        select(_PC.parent_context_id, _PC.context_id)
        .where(OneOf(_PC.parent_context_id, "ids"))
        .order_by(_PC.context_id)
    )
)


def parent_ids(tx: Transaction, ids: Collection[int]) -> Sequence[Sequence[int]]:
    """Rows (child, parent) of these children."""
    return tx.rows(_PARENTS, ids=values(set(ids)))


def _ancestors(tx: Transaction, ids: Collection[int]) -> dict[int, set[int]]:
    """Of everything above `ids`: child -> parents; one statement a level."""
    found: dict[int, set[int]] = {}
    wanted = set(ids)
    while wanted:
        for context in wanted:
            found.setdefault(context, set())
        rows = parent_ids(tx, wanted)
        for child, parent in rows:
            found[child].add(parent)
        wanted = {row[1] for row in rows} - found.keys()
    return found


def put_parents(tx: Transaction, links: Sequence[mlmd.ParentContext], *, reuse: bool = False) -> None:
    """`PutParentContexts`; with `reuse` a link that is there changes nothing.

    Raises:
        InvalidArgument: a field is missing, a context does not exist, or a link closes a cycle.
        AlreadyExists: a link is there.
    """
    for link in links:
        if not (link.HasField("child_id") and link.HasField("parent_id")):
            raise InvalidArgument("a parent context needs child_id and parent_id")
        if link.child_id == link.parent_id:
            raise InvalidArgument(f"context {link.child_id} cannot be its own parent")
    if not links:
        return
    require(tx, CONTEXT, [context for link in links for context in (link.child_id, link.parent_id)])
    parents = _ancestors(tx, [context for link in links for context in (link.child_id, link.parent_id)])
    rows = []
    for link in links:
        if link.parent_id in parents[link.child_id]:
            if reuse:
                continue
            raise AlreadyExists(f"context {link.parent_id} is already a parent of {link.child_id}")
        if _reaches(parents, link.parent_id, link.child_id):
            raise InvalidArgument(f"making {link.parent_id} a parent of {link.child_id} would close a cycle")
        parents[link.child_id].add(link.parent_id)
        rows.append((link.child_id, link.parent_id))
        tx.changes.parent_contexts.add(child_id=link.child_id, parent_id=link.parent_id)
    tx.many(_INSERT_PARENT, rows)


def _reaches(parents: dict[int, set[int]], start: int, end: int) -> bool:
    seen, todo = {start}, [start]
    while todo:
        context = todo.pop()
        if context == end:
            return True
        new = parents.get(context, set()) - seen
        seen |= new
        todo += new
    return False


def relatives(tx: Transaction, context_id: int, *, parents: bool) -> list[Any]:
    """`GetParentContextsByContext` and `GetChildrenContextsByContext`: one level."""
    rows = tx.rows(_PARENTS if parents else _CHILDREN, ids=values([context_id]))
    return nodes.by_ids(tx, CONTEXT, [row[1] for row in rows])


def relatives_of_many(tx: Transaction, ids: Collection[int], *, parents: bool) -> dict[int, list[Any]]:
    """The parents or children of many contexts; one that has none is absent."""
    if not ids:
        return {}
    rows = tx.rows(_PARENTS if parents else _CHILDREN, ids=values(set(ids)))
    found = {node.id: node for node in nodes.by_ids(tx, CONTEXT, {row[1] for row in rows})}
    result: dict[int, list[Any]] = {}
    for context, relative in rows:
        if relative in found:
            result.setdefault(context, []).append(found[relative])
    return result
