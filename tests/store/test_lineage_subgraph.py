"""PutLineageSubgraph and GetLineageSubgraph, as the contract of MLMD has them."""

from collections.abc import Mapping
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, InvalidArgument, NotFound, OutOfRange
from mdstore.wire import mlmd, service
from tests.store.writing import call, get_one, node, put, put_type

INPUT, OUTPUT, DECLARED_INPUT = mlmd.Event.INPUT, mlmd.Event.OUTPUT, mlmd.Event.DECLARED_INPUT
UP = mlmd.LineageSubgraphQueryOptions.UPSTREAM
DOWN = mlmd.LineageSubgraphQueryOptions.DOWNSTREAM
BOTH = mlmd.LineageSubgraphQueryOptions.BIDIRECTIONAL


def edge(type_: Any = OUTPUT, *, execution: int | None = None, artifact: int | None = None, **event: Any) -> Any:
    """An event edge: `execution` and `artifact` are indexes, `event` has the event's own fields."""
    found = service.PutLineageSubgraphRequest.EventEdge(event=mlmd.Event(type=type_, **event))
    if execution is not None:
        found.execution_index = execution
    if artifact is not None:
        found.artifact_index = artifact
    return found


@pytest.fixture
def types(client: Client) -> Mapping[str, int]:
    return {kind: put_type(client, kind, f"{kind}-type") for kind in ("artifact", "execution", "context")}


def chain(client: Client, types: Mapping[str, int], length: int) -> tuple[list[int], list[int]]:
    """a0 -> e0 -> a1 -> e1 -> ... -> a[length]; the ids of the artifacts and of the executions."""
    response = call(
        client,
        "PutLineageSubgraph",
        artifacts=[node("artifact", type_id=types["artifact"], uri=f"u{n}", name=f"a{n}") for n in range(length + 1)],
        executions=[node("execution", type_id=types["execution"], name=f"e{n}") for n in range(length)],
        event_edges=[
            found
            for n in range(length)
            for found in (edge(INPUT, execution=n, artifact=n), edge(OUTPUT, execution=n, artifact=n + 1))
        ],
    )
    return list(response.artifact_ids), list(response.execution_ids)


def walk(client: Client, query: str, *, executions: bool = False, mask: Any = (), **options: Any) -> mlmd.LineageGraph:
    asked = mlmd.LineageSubgraphQueryOptions(**options)
    start = asked.starting_executions if executions else asked.starting_artifacts
    start.filter_query = query
    response = call(client, "GetLineageSubgraph", lineage_subgraph_query_options=asked, read_mask={"paths": list(mask)})
    found: mlmd.LineageGraph = response.lineage_subgraph
    return found


def ids(nodes: Any) -> list[int]:
    return sorted(found.id for found in nodes)


def test_nodes_edges_and_links_are_put_together(client: Client, types: Mapping[str, int]) -> None:
    response = call(
        client,
        "PutLineageSubgraph",
        executions=[node("execution", type_id=types["execution"])],
        artifacts=[node("artifact", type_id=types["artifact"], uri="in"), node("artifact", type_id=types["artifact"])],
        contexts=[node("context", type_id=types["context"], name="run")],
        event_edges=[edge(INPUT, execution=0, artifact=0), edge(OUTPUT, execution=0, artifact=1)],
    )

    (execution,) = response.execution_ids
    (context,) = response.context_ids
    events = call(client, "GetEventsByExecutionIDs", execution_ids=[execution]).events
    assert [(event.artifact_id, event.type) for event in events] == [
        (response.artifact_ids[0], INPUT),
        (response.artifact_ids[1], OUTPUT),
    ]
    assert ids(call(client, "GetArtifactsByContext", context_id=context).artifacts) == list(response.artifact_ids)
    assert ids(call(client, "GetExecutionsByContext", context_id=context).executions) == [execution]


def test_an_empty_subgraph_is_fine(client: Client) -> None:
    assert call(client, "PutLineageSubgraph") == service.PutLineageSubgraphResponse()


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (edge(OUTPUT, execution=1, artifact=0), OutOfRange),
        (edge(OUTPUT, execution=-1, artifact=0), OutOfRange),
        (edge(OUTPUT, execution=0, artifact=7), OutOfRange),
        (edge(OUTPUT, execution=0), InvalidArgument),
        (edge(OUTPUT, artifact=0), InvalidArgument),
        (edge(mlmd.Event.UNKNOWN, execution=0, artifact=0), InvalidArgument),
        (edge(OUTPUT, execution=0, artifact=0, artifact_id=1), InvalidArgument),
        (edge(OUTPUT, execution=0, artifact_id=4711), InvalidArgument),
        (service.PutLineageSubgraphRequest.EventEdge(execution_index=0, artifact_index=0), InvalidArgument),
    ],
)
def test_a_wrong_edge_is_refused_and_nothing_is_stored(
    client: Client, types: Mapping[str, int], found: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        call(
            client,
            "PutLineageSubgraph",
            executions=[node("execution", type_id=types["execution"])],
            artifacts=[node("artifact", type_id=types["artifact"])],
            event_edges=[found],
        )

    assert not call(client, "GetArtifacts").artifacts
    assert not call(client, "GetExecutions").executions


def test_a_node_needs_its_type_even_when_it_is_there(client: Client, types: Mapping[str, int]) -> None:
    (artifact,) = put(client, "artifact", node("artifact", type_id=types["artifact"]))

    with pytest.raises(InvalidArgument):
        call(client, "PutLineageSubgraph", artifacts=[node("artifact", id=artifact)])


def test_an_unknown_type_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        call(client, "PutLineageSubgraph", artifacts=[node("artifact", type_id=4711)])


def test_a_repeated_edge_already_exists(client: Client, types: Mapping[str, int]) -> None:
    with pytest.raises(AlreadyExists):
        call(
            client,
            "PutLineageSubgraph",
            executions=[node("execution", type_id=types["execution"])],
            artifacts=[node("artifact", type_id=types["artifact"])],
            event_edges=[edge(execution=0, artifact=0), edge(execution=0, artifact=0)],
        )


def test_contexts_are_reused_unchanged_or_already_exist(client: Client, types: Mapping[str, int]) -> None:
    put(client, "context", node("context", {"kept": 1}, type_id=types["context"], name="run"))
    wanted = [node("context", {"new": 2}, type_id=types["context"], name=name) for name in ("run", "other", "other")]

    with pytest.raises(AlreadyExists):
        call(client, "PutLineageSubgraph", contexts=wanted)
    response = call(client, "PutLineageSubgraph", contexts=wanted, options={"reuse_context_if_already_exist": True})

    reused, created, again = response.context_ids
    assert created == again != reused
    assert list(get_one(client, "context", reused).custom_properties) == ["kept"]


def test_artifacts_are_reused_by_external_id(client: Client, types: Mapping[str, int]) -> None:
    (there,) = put(client, "artifact", node("artifact", type_id=types["artifact"], uri="old", external_id="x"))
    wanted = node("artifact", type_id=types["artifact"], uri="new", external_id="x")

    with pytest.raises(AlreadyExists):
        call(client, "PutLineageSubgraph", artifacts=[wanted])
    response = call(
        client,
        "PutLineageSubgraph",
        artifacts=[wanted],
        options={"reuse_artifact_if_already_exist_by_external_id": True},
    )

    assert list(response.artifact_ids) == [there]
    assert get_one(client, "artifact", there).uri == "new"


@pytest.mark.parametrize(
    ("direction", "artifacts", "executions"),
    [(UP, [0, 1, 2], [0, 1]), (DOWN, [2, 3, 4], [2, 3]), (BOTH, [0, 1, 2, 3, 4], [0, 1, 2, 3])],
)
def test_a_walk_goes_along_its_direction(
    client: Client, types: Mapping[str, int], direction: Any, artifacts: list[int], executions: list[int]
) -> None:
    made, run = chain(client, types, 4)

    graph = walk(client, "name = 'a2'", direction=direction)

    assert ids(graph.artifacts) == [made[n] for n in artifacts]
    assert ids(graph.executions) == [run[n] for n in executions]
    assert len(graph.events) == 2 * len(executions)


@pytest.mark.parametrize(("hops", "artifacts", "executions"), [(0, 1, 0), (1, 1, 1), (2, 2, 1), (3, 2, 2)])
def test_a_hop_is_one_event(
    client: Client, types: Mapping[str, int], hops: int, artifacts: int, executions: int
) -> None:
    chain(client, types, 4)

    graph = walk(client, "name = 'a4'", direction=UP, max_num_hops=hops)

    assert (len(graph.artifacts), len(graph.executions)) == (artifacts, executions)
    assert len(graph.events) == hops


def test_no_more_than_a_hundred_hops_are_walked(client: Client, types: Mapping[str, int]) -> None:
    chain(client, types, 60)

    for options in ({}, {"max_num_hops": 1000}):
        graph = walk(client, "name = 'a60'", direction=UP, **options)
        assert (len(graph.artifacts), len(graph.executions)) == (51, 50)


def test_nodes_carry_their_ids_only_and_events_all(client: Client, types: Mapping[str, int]) -> None:
    made, _ = chain(client, types, 1)

    graph = walk(client, "name = 'a1'", direction=UP)

    assert [field.name for found in graph.artifacts for field, _ in found.ListFields()] == ["id", "id"]
    assert [(event.artifact_id, event.type) for event in graph.events] == [(made[0], INPUT), (made[1], OUTPUT)]
    assert all(event.milliseconds_since_epoch for event in graph.events)


def test_contexts_and_types_come_along(client: Client, types: Mapping[str, int]) -> None:
    response = call(
        client,
        "PutLineageSubgraph",
        executions=[node("execution", type_id=types["execution"])],
        artifacts=[node("artifact", type_id=types["artifact"], name="a")],
        contexts=[node("context", type_id=types["context"], name="run")],
        event_edges=[edge(execution=0, artifact=0)],
    )
    put(client, "context", node("context", type_id=types["context"], name="of nobody"))

    graph = walk(client, "name = 'a'", direction=UP)

    assert ids(graph.contexts) == list(response.context_ids)
    assert [(link.artifact_id, link.context_id) for link in graph.attributions] == [
        (response.artifact_ids[0], response.context_ids[0])
    ]
    assert [(link.execution_id, link.context_id) for link in graph.associations] == [
        (response.execution_ids[0], response.context_ids[0])
    ]
    assert {"mlmd.Dataset", "artifact-type"} <= {found.name for found in graph.artifact_types}
    assert {"mlmd.Train", "execution-type"} <= {found.name for found in graph.execution_types}
    assert [found.name for found in graph.context_types] == ["context-type"]


def test_a_mask_says_which_parts_are_wanted(client: Client, types: Mapping[str, int]) -> None:
    chain(client, types, 1)

    masked = walk(client, "name = 'a1'", direction=UP, mask=["artifacts", "unknown", "events.type"])

    assert {field.name for field, _ in masked.ListFields()} == {"artifacts"}
    assert walk(client, "name = 'a1'", direction=UP, mask=["unknown"]) == mlmd.LineageGraph()


@pytest.mark.parametrize("include", [False, True])
def test_a_walk_ends_at_its_ending_nodes(client: Client, types: Mapping[str, int], include: bool) -> None:
    made, run = chain(client, types, 4)
    ending = {"filter_query": "name = 'e1'", "include_ending_nodes": include}

    graph = walk(client, "name = 'a4'", direction=UP, ending_executions=ending)

    assert ids(graph.artifacts) == [made[n] for n in (2, 3, 4)]
    assert ids(graph.executions) == [run[n] for n in ((1, 2, 3) if include else (2, 3))]
    assert len(graph.events) == (5 if include else 4)


def test_a_start_that_is_an_end_is_kept_only_when_ends_are(client: Client, types: Mapping[str, int]) -> None:
    made, _ = chain(client, types, 2)

    hidden = walk(client, "name = 'a2'", direction=UP, ending_artifacts={"filter_query": "name = 'a2'"})
    shown = walk(
        client,
        "name = 'a2'",
        direction=UP,
        ending_artifacts={"filter_query": "name = 'a2'", "include_ending_nodes": True},
    )

    assert not hidden.artifacts
    assert ids(shown.artifacts) == [made[2]]
    assert not shown.executions


def test_an_empty_ending_filter_ends_everywhere_and_an_unset_one_nowhere(
    client: Client, types: Mapping[str, int]
) -> None:
    chain(client, types, 2)

    everywhere = walk(client, "name = 'a2'", direction=UP, ending_executions={"filter_query": ""})
    nowhere = walk(client, "name = 'a2'", direction=UP, ending_executions={"include_ending_nodes": True})

    assert not everywhere.executions
    assert len(nowhere.executions) == 2


def test_cycles_end(client: Client, types: Mapping[str, int]) -> None:
    (artifact,) = put(client, "artifact", node("artifact", type_id=types["artifact"], name="loop"))
    (execution,) = put(client, "execution", node("execution", type_id=types["execution"]))
    events = [mlmd.Event(artifact_id=artifact, execution_id=execution, type=kind) for kind in (INPUT, OUTPUT)]
    call(client, "PutEvents", events=events)

    for direction in (UP, DOWN, BOTH):
        graph = walk(client, "name = 'loop'", direction=direction)
        assert (ids(graph.artifacts), ids(graph.executions)) == ([artifact], [execution])
        assert len(graph.events) == 2


def test_a_walk_may_start_from_executions(client: Client, types: Mapping[str, int]) -> None:
    made, run = chain(client, types, 3)

    graph = walk(client, "name = 'e2'", executions=True, direction=UP, max_num_hops=2)

    assert ids(graph.executions) == [run[1], run[2]]
    assert ids(graph.artifacts) == [made[2]]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, InvalidArgument),
        ({"starting_artifacts": {}}, InvalidArgument),
        ({"starting_artifacts": {"filter_query": ""}}, InvalidArgument),
        ({"starting_artifacts": {"filter_query": "name = "}}, InvalidArgument),
        ({"starting_artifacts": {"filter_query": "name = 'nobody'"}}, NotFound),
        ({"starting_executions": {"filter_query": "id = 4711"}}, NotFound),
    ],
)
def test_where_to_start_has_to_be_said(
    client: Client, types: Mapping[str, int], options: Mapping[str, Any], error: type[Exception]
) -> None:
    chain(client, types, 1)

    with pytest.raises(error):
        call(client, "GetLineageSubgraph", lineage_subgraph_query_options=options)


def test_a_negative_number_of_hops_is_refused(client: Client, types: Mapping[str, int]) -> None:
    chain(client, types, 1)

    with pytest.raises(InvalidArgument):
        walk(client, "name = 'a1'", max_num_hops=-1)


def test_no_more_than_a_hundred_nodes_are_started_from(client: Client, types: Mapping[str, int]) -> None:
    put(client, "artifact", *(node("artifact", type_id=types["artifact"], uri="many") for _ in range(130)))

    assert len(walk(client, "uri = 'many'").artifacts) == 100
