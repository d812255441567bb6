"""What a store holds, without what two stores that were told the same may differ in: ids and write times.

`contents(client)` gives one plain value; two stores hold the same when theirs are equal, and pytest shows where not. A
node is called by its external id, else by its name (contexts: type and name), else by its type, URI and properties.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mdstore.client.client import Client
from mdstore.errors import NotFound
from mdstore.values import (
    ArtifactState,
    EventType,
    ExecutionState,
    artifact_from_message,
    context_from_message,
    execution_from_message,
)
from mdstore.wire import ingestion, mlmd, service

POINTS_TO_AN_EXECUTION: Final = "cached_execution_id"
_PAGE: Final = 100


def contents(client: Client, *, documents: str | None = "writer.quarantine") -> dict[str, Any]:
    """Everything that is recorded in a store.

    Args:
        client: the store.
        documents: a collection of documents that belongs to the contents; None for none.

    Returns:
        `contexts`, `artifacts` and `executions` by what they are called, each with type, state, properties and what it
        belongs to; `events` as sorted tuples (execution, type, path, artifact, time); `documents` by key.
    """
    artifacts = [artifact_from_message(m) for m in _all(client.get_artifacts, service.GetArtifactsRequest, "artifacts")]
    executions = [
        execution_from_message(m) for m in _all(client.get_executions, service.GetExecutionsRequest, "executions")
    ]
    contexts = [context_from_message(m) for m in _all(client.get_contexts, service.GetContextsRequest, "contexts")]
    called: dict[int, str] = {
        e.id: e.external_id or e.name or f"{e.type} {sorted(e.custom_properties.items())}" for e in executions
    }
    named: dict[int, str] = {a.id: a.external_id or a.name or f"{a.type} {a.uri}" for a in artifacts}
    known_as: dict[int, str] = {c.id: f"{c.type} {c.name}" for c in contexts}
    members: dict[str, dict[int, list[str]]] = {"artifacts": {}, "executions": {}}
    parents: dict[int, list[str]] = {}
    for context in contexts:
        for artifact in _members(client.get_artifacts_by_context, service.GetArtifactsByContextRequest, context.id):
            members["artifacts"].setdefault(artifact.id, []).append(known_as[context.id])
        for execution in _members(client.get_executions_by_context, service.GetExecutionsByContextRequest, context.id):
            members["executions"].setdefault(execution.id, []).append(known_as[context.id])
        above = client.get_parent_contexts_by_context(
            service.GetParentContextsByContextRequest(context_id=context.id)
        ).contexts
        parents[context.id] = sorted(known_as[parent.id] for parent in above)

    def properties(given: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(given)
        if POINTS_TO_AN_EXECUTION in found:
            found[POINTS_TO_AN_EXECUTION] = called.get(int(found[POINTS_TO_AN_EXECUTION]), "nobody")
        return found

    result: dict[str, Any] = {
        "contexts": {
            known_as[c.id]: {"properties": properties(c.custom_properties), "parents": parents[c.id]} for c in contexts
        },
        "artifacts": {
            named[a.id]: {
                "type": a.type,
                "uri": a.uri,
                "state": ArtifactState(a.state or 0).name,
                "properties": properties(a.custom_properties),
                "contexts": sorted(members["artifacts"].get(a.id, [])),
            }
            for a in artifacts
        },
        "executions": {
            called[e.id]: {
                "type": e.type,
                "name": e.name,
                "state": ExecutionState(e.state or 0).name,
                "properties": properties(e.custom_properties),
                "contexts": sorted(members["executions"].get(e.id, [])),
            }
            for e in executions
        },
        "events": sorted(
            (
                called[event.execution_id],
                EventType(event.type).name,
                "/".join(str(s.key if s.WhichOneof("value") == "key" else s.index) for s in event.path.steps),
                named[event.artifact_id],
                event.milliseconds_since_epoch,
            )
            for event in _events(client, list(called))
        ),
        "documents": {} if documents is None else _documents(client, documents),
    }
    # Nobody is called as another one, or a doubled node would hide behind its twin.
    for kind, nodes in (("artifacts", artifacts), ("executions", executions), ("contexts", contexts)):
        assert len(result[kind]) == len(nodes), f"{len(nodes)} {kind} have {len(result[kind])} names"
    return result


def _all(call: Callable[..., Any], request: Callable[..., Any], field: str) -> Iterator[Any]:
    token = ""
    while True:
        options = mlmd.ListOperationOptions(max_result_size=_PAGE)
        if token:
            options.next_page_token = token
        page = call(request(options=options))
        yield from getattr(page, field)
        token = page.next_page_token
        if not token:
            return


def _members(call: Callable[..., Any], request: Callable[..., Any], context_id: int) -> Iterator[Any]:
    token = ""
    while True:
        options = mlmd.ListOperationOptions(max_result_size=_PAGE)
        if token:
            options.next_page_token = token
        page = call(request(context_id=context_id, options=options))
        yield from page.artifacts if hasattr(page, "artifacts") else page.executions
        token = page.next_page_token
        if not token:
            return


def _events(client: Client, execution_ids: list[int]) -> Iterator[mlmd.Event]:
    for start in range(0, len(execution_ids), _PAGE):
        chunk = execution_ids[start : start + _PAGE]
        try:
            yield from client.get_events_by_execution_ids(
                service.GetEventsByExecutionIDsRequest(execution_ids=chunk)
            ).events
        except NotFound:
            continue


def _documents(client: Client, collection: str) -> dict[str, bytes]:
    page = client.list_documents(ingestion.ListDocumentsRequest(collection=collection, limit=10_000))
    return {document.key: document.value for document in page.documents}
