"""Every RPC and the operation behind it: the one table that the server and the in-process client are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from mdstore.errors import InvalidArgument
from mdstore.store import kinds
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind
from mdstore.store.operations import (
    ahead,
    deleting,
    documents,
    executions,
    history,
    holding,
    ingest,
    lineage,
    links,
    listing,
    lists,
    nodes,
    putting,
    subgraph,
    types,
    writing,
)
from mdstore.store.operations.ahead import Foresee
from mdstore.store.transaction import Transaction
from mdstore.wire import service

Operation = Callable[[Transaction, Any], Any]


class Mode(Enum):
    """How an operation is to be scheduled."""

    WRITE = "write"
    """On the writer, in its transaction."""
    POINT = "point"
    """A read that is over in well under a millisecond."""
    LIST = "list"
    """The same where `options` ask for a page, else a read of everything."""
    SCAN = "scan"
    """A read that may take long."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC."""

    operation: Operation
    mode: Mode
    foresee: Foresee | None = None
    """What a write will ask for, if that is worth reading for many at once."""


_LETTERS: Final = {ARTIFACT: "Artifact", EXECUTION: "Execution", CONTEXT: "Context"}


def _response(name: str, **fields: Any) -> Any:
    return getattr(service, f"{name}Response")(**fields)


def _put_type(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _response(name, type_id=types.put_one(tx, kind, request))


def _get_type(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _response(name, **{f"{kind.label}_type": types.get_one(tx, kind, request)})


def _get_types(kind: Kind, name: str, tx: Transaction, _request: Any) -> Any:
    return _response(name, **{f"{kind.label}_types": types.get_all(tx, kind)})


def _get_types_by_id(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _response(name, **{f"{kind.label}_types": types.get_by_id(tx, kind, request.type_ids)})


def _get_types_by_external_ids(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _response(name, **{f"{kind.label}_types": types.get_by_external_ids(tx, kind, request.external_ids)})


def _put_nodes(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    guarded = kind is ARTIFACT and request.options.abort_if_latest_updated_time_changed
    ids = putting.put(
        tx, kind, getattr(request, kind.nodes_field), mask=frozenset(request.update_mask.paths), guarded=guarded
    )
    return _response(name, **{f"{kind.label}_ids": ids})


def _options(request: Any) -> Any:
    return request.options if request.HasField("options") else None


def _page(kind: Kind, name: str, page: lists.Page, *, token_always: bool = False) -> Any:
    found, token = page
    response = _response(name, **{kind.nodes_field: found})
    if token or token_always:
        response.next_page_token = token
    return response


def _get_nodes(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _page(kind, name, lists.list_nodes(tx, kind, _options(request)))


def _get_nodes_by_id(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    ids = getattr(request, f"{kind.label}_ids")
    if kind is not ARTIFACT or not request.populate_artifact_types:
        return _response(name, **{kind.nodes_field: nodes.by_ids_at_last(tx, kind, ids)})
    found = nodes.by_ids(tx, kind, ids)
    return _response(
        name,
        **{kind.nodes_field: found},
        artifact_types=types.of_ids(tx, kind, [node.type_id for node in found]),
    )


def _get_nodes_by_type(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    type_id = types.find_id(tx, kind, request.type_name, request.type_version)
    if type_id is None:
        return _response(name)
    page = _checked_if_any(tx, kind, request, type_id=type_id)
    # As the library does it: on the last page the token is there and empty, if there is any node of the type.
    any_there = bool(page[0]) or (request.HasField("options") and _is_any(tx, kind, type_id=type_id))
    return _page(kind, name, page, token_always=request.HasField("options") and any_there)


def _checked_if_any(tx: Transaction, kind: Kind, request: Any, **scope: int) -> lists.Page:
    """A page; wrong options are refused only where there is something to list, as the library does it."""
    try:
        return lists.list_nodes(tx, kind, _options(request), **scope)
    except InvalidArgument as error:
        if tx.is_from_database(error) or _is_any(tx, kind, **scope):
            raise
        return [], ""


def _is_any(tx: Transaction, kind: Kind, **scope: int) -> bool:
    return bool(lists.list_nodes(tx, kind, lists.FIRST, **scope)[0])


def _get_node_by_type_and_name(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    found = nodes.by_type_and_name(
        tx, kind, request.type_name, request.type_version, getattr(request, f"{kind.label}_name")
    )
    return _response(name, **({kind.label: found} if found is not None else {}))


def _get_nodes_by_external_ids(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _response(name, **{kind.nodes_field: nodes.by_external_ids(tx, kind, request.external_ids)})


def _get_nodes_by_context(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _page(kind, name, _checked_if_any(tx, kind, request, context_id=request.context_id))


def _get_contexts_by_node(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _response(name, contexts=links.contexts_of(tx, kind, getattr(request, f"{kind.label}_id")))


def _get_artifacts_by_uri(tx: Transaction, request: service.GetArtifactsByURIRequest) -> Any:
    # Field 1 was one URI; a request that still has it would be answered with nothing.
    if lists.has_unknown_field(request, 1):
        raise InvalidArgument("GetArtifactsByURI takes the list `uris`; the single `uri` is no longer understood")
    return service.GetArtifactsByURIResponse(artifacts=nodes.by_uris(tx, request.uris))


def _get_events(kind: Kind, name: str, tx: Transaction, request: Any) -> Any:
    return _response(name, events=links.events_of(tx, kind, getattr(request, f"{kind.label}_ids")))


def _put_events(tx: Transaction, request: service.PutEventsRequest) -> Any:
    links.put_events(tx, request.events)
    return service.PutEventsResponse()


def _put_members(tx: Transaction, request: service.PutAttributionsAndAssociationsRequest) -> Any:
    links.put_members(tx, request.attributions, request.associations)
    return service.PutAttributionsAndAssociationsResponse()


def _put_parents(tx: Transaction, request: service.PutParentContextsRequest) -> Any:
    links.put_parents(tx, request.parent_contexts)
    return service.PutParentContextsResponse()


def _relatives(parents: bool, name: str, tx: Transaction, request: Any) -> Any:
    return _response(name, contexts=links.relatives(tx, request.context_id, parents=parents))


def _relatives_of_many(parents: bool, name: str, tx: Transaction, request: Any) -> Any:
    response = _response(name)
    for context_id, found in links.relatives_of_many(tx, request.context_ids, parents=parents).items():
        entry = response.contexts[context_id]
        (entry.parent_contexts if parents else entry.children_contexts).extend(found)
    return response


def _table() -> Mapping[str, Rpc]:
    found: dict[str, Rpc] = {}

    def add(name: str, operation: Callable[..., Any], mode: Mode, *first: Any, foresee: Foresee | None = None) -> None:
        bound = partial(operation, *first, name) if first else operation
        found[f"/ml_metadata.MetadataStoreService/{name}"] = Rpc(bound, mode, foresee)

    for kind in kinds.KINDS:
        letters = _LETTERS[kind]
        add(f"Put{letters}Type", _put_type, Mode.WRITE, kind)
        add(f"Get{letters}Type", _get_type, Mode.POINT, kind)
        add(f"Get{letters}Types", _get_types, Mode.POINT, kind)
        add(f"Get{letters}TypesByID", _get_types_by_id, Mode.POINT, kind)
        add(f"Get{letters}TypesByExternalIds", _get_types_by_external_ids, Mode.POINT, kind)
        add(f"Put{letters}s", _put_nodes, Mode.WRITE, kind, foresee=ahead.for_nodes(kind))
        add(f"Get{letters}s", _get_nodes, Mode.LIST, kind)
        add(f"Get{letters}sByID", _get_nodes_by_id, Mode.POINT, kind)
        add(f"Get{letters}sByType", _get_nodes_by_type, Mode.LIST, kind)
        add(f"Get{letters}ByTypeAndName", _get_node_by_type_and_name, Mode.POINT, kind)
        add(f"Get{letters}sByExternalIds", _get_nodes_by_external_ids, Mode.POINT, kind)
    for kind in (ARTIFACT, EXECUTION):
        letters = _LETTERS[kind]
        add(f"Get{letters}sByContext", _get_nodes_by_context, Mode.LIST, kind)
        add(f"GetContextsBy{letters}", _get_contexts_by_node, Mode.POINT, kind)
        add(f"GetEventsBy{letters}IDs", _get_events, Mode.POINT, kind)
    add("GetArtifactsByURI", _get_artifacts_by_uri, Mode.POINT)
    add("PutTypes", types.put_types, Mode.WRITE)
    add("PutEvents", _put_events, Mode.WRITE, foresee=ahead.for_events)
    add("PutExecution", executions.put_execution, Mode.WRITE, foresee=ahead.for_execution)
    add("PutLineageSubgraph", subgraph.put_lineage_subgraph, Mode.WRITE)
    add("GetLineageSubgraph", lineage.get_lineage_subgraph, Mode.SCAN)
    add("PutAttributionsAndAssociations", _put_members, Mode.WRITE, foresee=ahead.for_members)
    add("PutParentContexts", _put_parents, Mode.WRITE)
    add("GetParentContextsByContext", _relatives, Mode.POINT, True)
    add("GetChildrenContextsByContext", _relatives, Mode.POINT, False)
    add("GetParentContextsByContexts", _relatives_of_many, Mode.POINT, True)
    add("GetChildrenContextsByContexts", _relatives_of_many, Mode.POINT, False)
    found["/mdstore.v1.Ingestion/Ingest"] = Rpc(ingest.ingest, Mode.WRITE)
    found["/mdstore.v1.Nodes/Write"] = Rpc(writing.write, Mode.WRITE)
    found["/mdstore.v1.Nodes/DeleteNodes"] = Rpc(deleting.delete_nodes, Mode.WRITE)
    found["/mdstore.v1.Nodes/HoldNodes"] = Rpc(holding.hold, Mode.WRITE)
    found["/mdstore.v1.Nodes/ReleaseNodes"] = Rpc(holding.release, Mode.WRITE)
    found["/mdstore.v1.Nodes/ListHolds"] = Rpc(holding.list_holds, Mode.SCAN)
    found["/mdstore.v1.Nodes/ListNodes"] = Rpc(listing.list_nodes, Mode.SCAN)
    found["/mdstore.v1.Nodes/History"] = Rpc(history.history, Mode.SCAN)
    found["/mdstore.v1.Ingestion/ListDocuments"] = Rpc(documents.list_documents, Mode.SCAN)
    return found


RPCS: Final[Mapping[str, Rpc]] = _table()
"""Path -> RPC. A method of the services that is not here answers UNIMPLEMENTED."""
