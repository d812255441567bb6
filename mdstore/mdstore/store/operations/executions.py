"""`PutExecution`: an execution, its artifacts, their events and contexts, in one transaction."""

from collections.abc import Iterator, Sequence
from typing import Any

from mdstore.errors import Aborted, AlreadyExists, InvalidArgument, NotFound
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION
from mdstore.store.operations import links, nodes, putting, types
from mdstore.store.transaction import Transaction
from mdstore.wire import mlmd, service


def put_execution(tx: Transaction, request: service.PutExecutionRequest) -> service.PutExecutionResponse:
    """`PutExecution`; either everything is stored or nothing."""
    if not request.HasField("execution"):
        raise InvalidArgument("the request has no execution")
    options = request.options
    pairs = request.artifact_event_pairs
    # All types at once; those of nodes that are updated are read with them later.
    types.learn(tx, {node.type_id for node in _nodes(request) if node.HasField("type_id")})
    artifact_ids = _put_artifacts(tx, pairs, reuse=options.reuse_artifact_if_already_exist_by_external_id)
    execution_id = _put_one(tx, request.execution, force_update_time=options.force_update_time)
    events = []
    for pair, artifact_id in zip(pairs, artifact_ids, strict=True):
        if pair.HasField("event"):
            events.append(_event(pair, artifact_id, execution_id))
    # The library takes an event for an artifact that is not there, and the row then breaks its readers.
    links.require(tx, ARTIFACT, [pair.event.artifact_id for pair in pairs if not pair.HasField("artifact")])
    links.insert_events(tx, events)
    context_ids = put_contexts(
        tx,
        request.contexts,
        reuse=options.reuse_context_if_already_exist,
        force_reuse=options.force_reuse_context,
    )
    new_executions = tx.changes.created_execution_ids
    links.add_members(tx, EXECUTION, [(context, execution_id) for context in context_ids], new_nodes=new_executions)
    links.add_members(
        tx,
        ARTIFACT,
        [(context, artifact) for context in context_ids for artifact in artifact_ids],
        new_nodes=tx.changes.created_artifact_ids,
    )
    return service.PutExecutionResponse(execution_id=execution_id, artifact_ids=artifact_ids, context_ids=context_ids)


def _nodes(request: service.PutExecutionRequest) -> Iterator[Any]:
    yield request.execution
    yield from request.contexts
    for pair in request.artifact_event_pairs:
        if pair.HasField("artifact"):
            yield pair.artifact


def _put_one(tx: Transaction, execution: mlmd.Execution, *, force_update_time: bool) -> int:
    stored = putting.read_for_update(tx, EXECUTION, [execution])
    declared = putting.declarations_for(tx, EXECUTION, [execution], stored)
    if execution.HasField("id"):
        putting.update_nodes(tx, EXECUTION, [execution], stored, declared, force_update_time=force_update_time)
        return execution.id
    putting.check_new(EXECUTION, execution, declared)
    return putting.create(tx, EXECUTION, [execution], declared)[0]


def _put_artifacts(tx: Transaction, pairs: Sequence[Any], *, reuse: bool) -> list[int]:
    """The artifact's id of each pair."""
    wanted: list[mlmd.Artifact] = []
    known: dict[str, int] = {}
    if reuse:
        external_ids = [
            pair.artifact.external_id
            for pair in pairs
            if pair.artifact.external_id and not pair.artifact.HasField("id")
        ]
        if external_ids:
            known = nodes.ids_by_external_id(tx, ARTIFACT, external_ids)
    # Position of the pair that creates an artifact by external id -> those that name it again.
    first_of: dict[str, int] = {}
    slots: list[int | None] = []
    again: dict[int, int] = {}
    for position, pair in enumerate(pairs):
        if not pair.HasField("artifact"):
            if not pair.HasField("event"):
                raise InvalidArgument(f"pair {position} has neither an artifact nor an event")
            slots.append(None)
            continue
        artifact = mlmd.Artifact()
        artifact.CopyFrom(pair.artifact)
        if reuse and artifact.external_id and not artifact.HasField("id"):
            if artifact.external_id in known:
                artifact.id = known[artifact.external_id]
            elif artifact.external_id in first_of:
                again[position] = first_of[artifact.external_id]
                slots.append(None)
                continue
            else:
                first_of[artifact.external_id] = position
        elif reuse and artifact.HasField("id"):
            # Pairs are worked off in their order: this one may take an external id or set one free.
            known = {name: there for name, there in known.items() if there != artifact.id}
            if artifact.external_id:
                known[artifact.external_id] = artifact.id
        slots.append(len(wanted))
        wanted.append(artifact)
    ids = putting.put(tx, ARTIFACT, wanted)
    result: list[int] = []
    updates: list[mlmd.Artifact] = []
    for position, pair in enumerate(pairs):
        slot = slots[position]
        if slot is not None:
            result.append(ids[slot])
        elif position in again:
            repeated = mlmd.Artifact()
            repeated.CopyFrom(pair.artifact)
            repeated.id = result[again[position]]
            updates.append(repeated)
            result.append(repeated.id)
        else:
            result.append(pair.event.artifact_id)
    if updates:
        putting.put(tx, ARTIFACT, updates)
    return result


def _event(pair: Any, artifact_id: int, execution_id: int) -> mlmd.Event:
    event = mlmd.Event()
    event.CopyFrom(pair.event)
    links.check_event_type(event)
    if not pair.HasField("artifact") and not event.HasField("artifact_id"):
        raise InvalidArgument("a pair has an event without artifact_id, and no artifact")
    if event.HasField("artifact_id") and event.artifact_id != artifact_id:
        raise InvalidArgument(f"an event names artifact {event.artifact_id}, but its pair holds {artifact_id}")
    if event.HasField("execution_id") and event.execution_id != execution_id:
        raise InvalidArgument(f"an event names execution {event.execution_id}, but the request puts {execution_id}")
    event.artifact_id = artifact_id
    event.execution_id = execution_id
    return event


def put_contexts(tx: Transaction, contexts: Sequence[mlmd.Context], *, reuse: bool, force_reuse: bool) -> list[int]:
    """The id of each context, created or updated.

    Args:
        tx: the transaction.
        contexts: each needs a type id and a name, also when it has an id, unless that is used as it is.
        reuse: one without an id whose type and name are there is used as it is; else that is AlreadyExists.
        force_reuse: one with an id is used as it is; an unknown id is NotFound.
    """
    if not contexts:
        return []
    stored = putting.read_for_update(tx, CONTEXT, contexts)
    declared = putting.declarations_for(tx, CONTEXT, contexts, stored)
    known = nodes.ids_by_type_and_name(
        tx, CONTEXT, [(context.type_id, context.name) for context in contexts if not context.HasField("id")]
    )
    made: dict[tuple[int, str], int] = {}
    new: dict[tuple[int, str], mlmd.Context] = {}

    def make_new() -> None:
        try:
            created = putting.create(tx, CONTEXT, list(new.values()), declared)
        except AlreadyExists as taken:
            if reuse and not any(context.external_id for context in new.values()):
                # Somebody else, as the library, has made it since the look-up: the next attempt finds and uses it.
                raise Aborted("a context that is to be reused is being made by somebody else: try again") from (
                    taken.__cause__
                )
            raise
        made.update(zip(new, created, strict=True))
        known.update(made)
        new.clear()

    ids: list[int | tuple[int, str]] = []
    for context in contexts:
        if context.HasField("id") and context.id not in stored and new:
            # A request may name by its id what it has just created, if it guesses right.
            make_new()
            stored.update((found.id, found) for found in nodes.by_ids(tx, CONTEXT, [context.id]))
        if force_reuse and context.HasField("id"):
            if context.id not in stored:
                raise NotFound(f"no context has the id {context.id}")
            ids.append(context.id)
            continue
        if not context.HasField("type_id"):
            raise InvalidArgument("Type id is missing: a context of PutExecution needs one")
        if not context.HasField("name"):
            raise InvalidArgument("a context needs a name that is not empty")
        key = (context.type_id, context.name)
        if context.HasField("id"):
            # Contexts are worked off in their order, since this one may take a name or set one free.
            make_new()
            putting.update_nodes(tx, CONTEXT, [context], stored, declared)
            known = {name: there for name, there in known.items() if there != context.id} | {key: context.id}
            ids.append(context.id)
        elif key in known or key in new:
            if not reuse:
                # Its other mistakes come first, as in the library.
                putting.check_new(CONTEXT, context, declared)
                raise AlreadyExists(
                    f"context {context.name!r} of type {context.type_id} is there: set reuse_context_if_already_exist"
                )
            ids.append(known.get(key, key))
        else:
            putting.check_new(CONTEXT, context, declared)
            new[key] = context
            ids.append(key)
    make_new()
    return [made[found] if isinstance(found, tuple) else found for found in ids]
