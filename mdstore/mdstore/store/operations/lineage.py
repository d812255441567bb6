"""`GetLineageSubgraph`: a breadth-first walk along events, one statement a hop."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import select

from mdstore.errors import InvalidArgument, NotFound
from mdstore.store import tables
from mdstore.store.filterquery.plan import matching
from mdstore.store.kinds import ARTIFACT, EXECUTION, Kind
from mdstore.store.operations import links, types
from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Row, Transaction
from mdstore.values import INPUTS, OUTPUTS
from mdstore.wire import mlmd, service

MOST_HOPS: Final = 100
MOST_STARTS: Final = 100

_Direction = mlmd.LineageSubgraphQueryOptions
_E = tables.EVENT.c
_COLUMNS: Final = (_E.id, _E.artifact_id, _E.execution_id, _E.type, _E.milliseconds_since_epoch)
_OTHER: Final = {ARTIFACT: EXECUTION, EXECUTION: ARTIFACT}
_PLACE: Final = {ARTIFACT: 1, EXECUTION: 2}
"""Of a kind's id in an event's row."""


def _along(column: Any) -> Statement:
    return Statement(lambda: select(*_COLUMNS).where(OneOf(column, "ids"), OneOf(_E.type, "types")).order_by(_E.id))


_EVENTS: Final = {ARTIFACT: _along(_E.artifact_id), EXECUTION: _along(_E.execution_id)}


@dataclass(slots=True)
class _Boundary:
    """Nodes of one kind at which the walk ends."""

    query: str
    include: bool


@dataclass(slots=True)
class _Walk:
    """What was reached so far."""

    reached: dict[Kind, set[int]] = field(default_factory=lambda: {ARTIFACT: set(), EXECUTION: set()})
    events: dict[int, Row] = field(default_factory=dict)


def get_lineage_subgraph(
    tx: Transaction, request: service.GetLineageSubgraphRequest
) -> service.GetLineageSubgraphResponse:
    """`GetLineageSubgraph`. Nodes carry only their ids, as the library's do; contexts too.

    Raises:
        InvalidArgument: no starting nodes are asked for, a filter is wrong, or the number of hops is negative.
        NotFound: no node matches the starting filter.
    """
    options = request.lineage_subgraph_query_options
    kind, query = _start(options)
    hops = min(options.max_num_hops, MOST_HOPS) if options.HasField("max_num_hops") else MOST_HOPS
    if hops < 0:
        raise InvalidArgument(f"max_num_hops is {hops}; it must not be negative")
    boundaries = {
        ended: _Boundary(ending.filter_query, ending.include_ending_nodes)
        for ended, ending in ((ARTIFACT, options.ending_artifacts), (EXECUTION, options.ending_executions))
        if ending.HasField("filter_query")
    }
    start = matching(tx, kind, query, None, MOST_STARTS)
    if not start:
        raise NotFound(f"no {kind.label} matches the starting filter {query!r}")
    walk = _walk(tx, kind, start, hops, options.direction, boundaries)
    mask = frozenset(request.read_mask.paths)
    return service.GetLineageSubgraphResponse(lineage_subgraph=_graph(tx, walk, mask))


def _start(options: mlmd.LineageSubgraphQueryOptions) -> tuple[Kind, str]:
    match options.WhichOneof("starting_nodes"):
        case "starting_artifacts":
            kind, query = ARTIFACT, options.starting_artifacts.filter_query
        case "starting_executions":
            kind, query = EXECUTION, options.starting_executions.filter_query
        case _:
            raise InvalidArgument("the request has neither starting_artifacts nor starting_executions")
    if not query:
        raise InvalidArgument("the starting nodes have no filter_query")
    return kind, query


def _types(kind: Kind, direction: int) -> Collection[int]:
    """The event types to walk along from nodes of a kind."""
    if direction == _Direction.UPSTREAM:
        return OUTPUTS if kind is ARTIFACT else INPUTS
    if direction == _Direction.DOWNSTREAM:
        return INPUTS if kind is ARTIFACT else OUTPUTS
    return mlmd.Event.Type.values()


def _walk(
    tx: Transaction,
    kind: Kind,
    start: Sequence[int],
    hops: int,
    direction: int,
    boundaries: dict[Kind, _Boundary],
) -> _Walk:
    walk = _Walk()
    frontier = set(start) - _ended(tx, boundaries.get(kind), kind, start)
    kept = set(start) if kind in boundaries and boundaries[kind].include else frontier
    walk.reached[kind] |= kept
    for _ in range(hops):
        if not frontier:
            break
        rows = tx.rows(_EVENTS[kind], ids=values(frontier), types=values(sorted(_types(kind, direction))))
        other = _OTHER[kind]
        place = _PLACE[other]
        boundary = boundaries.get(other)
        met = {row[place] for row in rows}
        new = met - walk.reached[other]
        # Ended ones that are not shown were never reached, so each time they are met they are asked about again.
        ended = _ended(tx, boundary, other, new)
        hidden = ended if boundary is not None and not boundary.include else set()
        walk.events.update((row[0], row) for row in rows if row[place] not in hidden)
        walk.reached[other] |= new - hidden
        frontier, kind = new - ended, other
    return walk


def _ended(tx: Transaction, boundary: _Boundary | None, kind: Kind, ids: Collection[int]) -> set[int]:
    if boundary is None or not ids:
        return set()
    if not boundary.query:
        # The library takes an empty filter for one that matches everything.
        return set(ids)
    return set(matching(tx, kind, boundary.query, ids, len(ids)))


def _graph(tx: Transaction, walk: _Walk, mask: frozenset[str]) -> mlmd.LineageGraph:
    graph = mlmd.LineageGraph()

    def wanted(name: str) -> bool:
        return not mask or name in mask

    if wanted("artifact_types") or wanted("execution_types") or wanted("context_types"):
        for kind, found in types.everything(tx).items():
            if wanted(f"{kind.label}_types"):
                getattr(graph, f"{kind.label}_types").extend(found)
    for kind in (ARTIFACT, EXECUTION):
        if wanted(kind.nodes_field):
            getattr(graph, kind.nodes_field).extend(kind.message(id=node) for node in sorted(walk.reached[kind]))
    if wanted("events"):
        graph.events.extend(links.event_messages(tx, [walk.events[event] for event in sorted(walk.events)]))
    contexts: set[int] = set()
    attributions: Iterable[Sequence[int]] = ()
    associations: Iterable[Sequence[int]] = ()
    if wanted("attributions") or wanted("contexts"):
        attributions = links.context_ids_of(tx, ARTIFACT, walk.reached[ARTIFACT])
        contexts |= {context for _, context in attributions}
    if wanted("associations") or wanted("contexts"):
        associations = links.context_ids_of(tx, EXECUTION, walk.reached[EXECUTION])
        contexts |= {context for _, context in associations}
    if wanted("contexts"):
        graph.contexts.extend(mlmd.Context(id=context) for context in sorted(contexts))
    if wanted("attributions"):
        for artifact, context in attributions:
            graph.attributions.add(artifact_id=artifact, context_id=context)
    if wanted("associations"):
        for execution, context in associations:
            graph.associations.add(execution_id=execution, context_id=context)
    return graph
