"""`PutLineageSubgraph`: many executions, artifacts and contexts and the events between them, in one transaction."""

from collections.abc import Sequence
from typing import Any

from mdstore.errors import InvalidArgument, NotFound, OutOfRange
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind
from mdstore.store.operations import links, nodes, putting, types
from mdstore.store.operations.executions import put_contexts
from mdstore.store.properties import check_declared
from mdstore.store.transaction import Transaction
from mdstore.wire import mlmd, service


def put_lineage_subgraph(
    tx: Transaction, request: service.PutLineageSubgraphRequest
) -> service.PutLineageSubgraphResponse:
    """`PutLineageSubgraph`; either everything is stored or nothing."""
    for edge in request.event_edges:
        _check_edge(edge, request)
    types.learn(
        tx,
        {
            node.type_id
            for kind_nodes in (request.artifacts, request.executions, request.contexts)
            for node in kind_nodes
            if node.HasField("type_id")
        },
    )
    # In the library's order, so that of several mistakes the same one is told.
    for kind in (ARTIFACT, EXECUTION, CONTEXT):
        _check_types(tx, kind, getattr(request, kind.nodes_field))
    options = request.options
    context_ids = put_contexts(tx, request.contexts, reuse=options.reuse_context_if_already_exist, force_reuse=False)
    artifacts: Sequence[mlmd.Artifact] = request.artifacts
    if options.reuse_artifact_if_already_exist_by_external_id:
        artifacts = _reused(tx, artifacts)
    artifact_ids = putting.put(tx, ARTIFACT, artifacts)
    execution_ids = putting.put(tx, EXECUTION, request.executions)
    events = [_event(edge, artifact_ids, execution_ids) for edge in request.event_edges]
    for event in events:
        links.check_event_type(event)
    # The library takes an event between nodes that are not there, and the row then breaks its readers.
    links.require(tx, ARTIFACT, {event.artifact_id for event in events} - set(artifact_ids))
    links.require(tx, EXECUTION, {event.execution_id for event in events} - set(execution_ids))
    links.insert_events(tx, events)
    for kind, ids, new in (
        (ARTIFACT, artifact_ids, tx.changes.created_artifact_ids),
        (EXECUTION, execution_ids, tx.changes.created_execution_ids),
    ):
        links.add_members(tx, kind, [(context, node) for context in context_ids for node in ids], new_nodes=new)
    return service.PutLineageSubgraphResponse(
        execution_ids=execution_ids, artifact_ids=artifact_ids, context_ids=context_ids
    )


def _check_edge(edge: Any, request: service.PutLineageSubgraphRequest) -> None:
    if not edge.HasField("event"):
        raise InvalidArgument("an event edge has no event")
    for label, listed in (("execution", request.executions), ("artifact", request.artifacts)):
        has_id = edge.event.HasField(f"{label}_id")
        if not edge.HasField(f"{label}_index"):
            if not has_id:
                raise InvalidArgument(f"an event edge names no {label}, neither by index nor by id")
            continue
        index = getattr(edge, f"{label}_index")
        if not 0 <= index < len(listed):
            raise OutOfRange(f"an event edge names {label} {index} of a list of {len(listed)}")
        if has_id and (not listed[index].HasField("id") or listed[index].id != getattr(edge.event, f"{label}_id")):
            raise InvalidArgument(
                f"an event edge names {label} {getattr(edge.event, f'{label}_id')}, "
                f"but the {label} at index {index} is another one"
            )


def _check_types(tx: Transaction, kind: Kind, listed: Sequence[Any]) -> None:
    """All need a type that exists, those that are updated or reused too, and properties that fit it."""
    for node in listed:
        if not node.HasField("type_id"):
            raise InvalidArgument(f"Type id is missing: each {kind.label} of PutLineageSubgraph needs one")
    declared = types.declarations(tx, kind, {node.type_id for node in listed})
    for node in listed:
        if node.type_id not in declared:
            raise NotFound(f"no {kind.label} type has the id {node.type_id}")
    for node in listed:
        declaration = declared[node.type_id]
        check_declared(declaration.name, declaration.properties, node.properties)


def _reused(tx: Transaction, artifacts: Sequence[mlmd.Artifact]) -> list[mlmd.Artifact]:
    """The artifacts, with the ids of those whose external id is taken."""
    wanted = {artifact.external_id for artifact in artifacts if artifact.external_id and not artifact.HasField("id")}
    if not wanted:
        return list(artifacts)
    known = nodes.ids_by_external_id(tx, ARTIFACT, wanted)
    result = []
    for artifact in artifacts:
        reused = mlmd.Artifact()
        reused.CopyFrom(artifact)
        if not artifact.HasField("id") and artifact.external_id in known:
            reused.id = known[artifact.external_id]
        result.append(reused)
    return result


def _event(edge: Any, artifact_ids: Sequence[int], execution_ids: Sequence[int]) -> mlmd.Event:
    event = mlmd.Event()
    event.CopyFrom(edge.event)
    if edge.HasField("artifact_index"):
        event.artifact_id = artifact_ids[edge.artifact_index]
    if edge.HasField("execution_index"):
        event.execution_id = execution_ids[edge.execution_index]
    return event
