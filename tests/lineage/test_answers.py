"""The graph's answers against the oracle, on random stores with cycles, parallel events and dangling ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstore.values import EventType, ExecutionState
from mdstore.wire import changes
from mdstore_lineage.graph import Cut, Direction, Limits, Node
from tests.lineage import logs, oracle
from tests.lineage.conftest import projected
from tests.lineage.oracle import artifact, execution

IDS = st.one_of(st.integers(-1, 8), st.sampled_from([2**62, 2**63]))
NODES = st.one_of(IDS.map(artifact), IDS.map(execution))
STARTS = st.lists(NODES, max_size=3)
DIRECTIONS = st.sampled_from(list(Direction))
ARTIFACT_TYPES = st.sets(st.sampled_from(["Dataset", "Model", "Unheard of"]))
EXECUTION_TYPES = st.sets(st.sampled_from(["Train", "Split"]))


@given(oracle.histories(), STARTS, DIRECTIONS)
def test_neighbours_are_the_edges_one_hop_away(
    commits: list[changes.Commit], nodes: list[Node], direction: Direction
) -> None:
    facts = oracle.facts_of(commits)
    with projected(commits) as graph:
        found = graph.neighbours(nodes, direction)

    wanted = {node: oracle.edges_of(facts, node, direction) for node in nodes}
    assert found == {node: edges for node, edges in wanted.items() if edges}


@given(
    oracle.histories(),
    STARTS,
    DIRECTIONS,
    st.one_of(st.none(), st.integers(0, 6)),
    st.tuples(ARTIFACT_TYPES, EXECUTION_TYPES),
)
def test_a_closure_is_what_can_be_reached(
    commits: list[changes.Commit],
    start: list[Node],
    direction: Direction,
    hops: int | None,
    types: tuple[set[str], set[str]],
) -> None:
    artifact_types, execution_types = types
    facts = oracle.facts_of(commits)
    with projected(commits) as graph:
        found = graph.closure(
            start,
            direction,
            limits=Limits(hops=hops),
            artifact_types=artifact_types,
            execution_types=execution_types,
        )

    def is_shown(node: Node) -> bool:
        types = execution_types if isinstance(node, type(execution(1))) else artifact_types
        return node in start or not types or oracle.type_name(facts, node) in types

    reached = list(oracle.levels(facts, start, direction))
    within = reached if hops is None else reached[: hops + 1]
    wanted = [[node for node in level if is_shown(node)] for level in within]
    assert found.nodes == [node for level in wanted for node in level]
    assert found.hops == {node: hop for hop, level in enumerate(wanted) for node in level}
    assert found.edges == oracle.inner_edges(facts, found.nodes, direction)
    assert found.cuts == ({Cut.HOPS} if len(reached) > len(within) else set())
    assert found.position == commits[-1].seq


@given(oracle.histories(), STARTS, DIRECTIONS, st.integers(0, 12), ARTIFACT_TYPES)
def test_a_closure_cut_by_nodes_keeps_the_nearest(
    commits: list[changes.Commit], start: list[Node], direction: Direction, nodes: int, artifact_types: set[str]
) -> None:
    facts = oracle.facts_of(commits)
    with projected(commits) as graph:
        whole = graph.closure(start, direction, limits=Limits(), artifact_types=artifact_types)
        found = graph.closure(start, direction, limits=Limits(nodes=nodes), artifact_types=artifact_types)
        again = graph.closure(start, direction, limits=Limits(nodes=nodes), artifact_types=artifact_types)

    assert len(found.nodes) == min(nodes, len(whole.nodes))
    assert found.cuts == ({Cut.NODES} if len(whole.nodes) > nodes else set())
    # Some of the last hop, all of the hops before it, each in order.
    assert set(found.nodes) <= set(whole.nodes)
    assert [found.hops[node] for node in found.nodes] == [whole.hops[node] for node in whole.nodes][:nodes]
    assert sorted(found.nodes, key=lambda node: (whole.hops[node], oracle.sort_key(node))) == found.nodes
    assert found.edges == oracle.inner_edges(facts, found.nodes, direction)
    assert found == again


@given(oracle.histories())
def test_downstream_is_upstream_seen_from_the_other_end(commits: list[changes.Commit]) -> None:
    nodes = list(oracle.facts_of(commits).types)
    with projected(commits) as graph:
        upstream = {
            (far, near) for near in nodes for far in graph.closure([near], Direction.UPSTREAM, limits=Limits()).nodes
        }
        downstream = {
            (near, far) for near in nodes for far in graph.closure([near], Direction.DOWNSTREAM, limits=Limits()).nodes
        }
        joined = {
            (start, end) for start in nodes for end in nodes if graph.paths(start, end, limits=Limits(), most=1).paths
        }

    assert downstream == upstream
    assert joined == upstream


@given(oracle.histories(most_ids=5, most_events=20), NODES, NODES)
def test_paths_are_all_simple_paths_shortest_first(commits: list[changes.Commit], start: Node, end: Node) -> None:
    wanted = oracle.simple_paths(oracle.facts_of(commits), start, end)
    with projected(commits) as graph:
        found = graph.paths(start, end, limits=Limits(), most=1_000_000)

    paths = [tuple(path) for path in found.paths]
    assert [len(path) for path in paths] == sorted(len(path) for path in wanted)
    assert set(paths) == set(wanted)
    assert found.cuts == set()
    assert found.position == commits[-1].seq


@given(oracle.histories(most_ids=5, most_events=20), NODES, NODES, st.integers(0, 3), st.integers(0, 8))
def test_paths_within_limits_say_what_was_left_out(
    commits: list[changes.Commit], start: Node, end: Node, most: int, hops: int
) -> None:
    facts = oracle.facts_of(commits)
    everything = oracle.simple_paths(facts, start, end)
    wanted = sorted((path for path in everything if len(path) - 1 <= hops), key=len)
    with projected(commits) as graph:
        found = graph.paths(start, end, limits=Limits(hops=hops), most=most)

    paths = [tuple(path) for path in found.paths]
    assert [len(path) for path in paths] == [len(path) for path in wanted[:most]]
    assert set(paths) <= set(wanted)
    assert len(set(paths)) == len(paths)
    assert (Cut.PATHS in found.cuts) == (len(wanted) > most)
    if len(wanted) <= most and len(everything) > len(wanted):
        assert Cut.HOPS in found.cuts
    if Cut.HOPS in found.cuts and len(everything) == len(wanted):
        # Neither side was read to its end, so there may have been longer ones.
        assert max(len(list(oracle.levels(facts, [end], Direction.UPSTREAM))), 0) > hops + 1
        assert max(len(list(oracle.levels(facts, [start], Direction.DOWNSTREAM))), 0) > hops + 1
    assert found.cuts <= {Cut.PATHS, Cut.HOPS}


@given(oracle.histories(), STARTS)
def test_runs_of_a_node_are_its_contexts_of_a_runs_type(commits: list[changes.Commit], nodes: list[Node]) -> None:
    facts = oracle.facts_of(commits)
    with projected(commits) as graph:
        found = graph.runs_of(nodes)

    wanted = {node: oracle.runs_of(facts, node) for node in nodes}
    assert found == {node: runs for node, runs in wanted.items() if runs}


def test_a_cache_hit_is_not_what_an_artifact_came_from_while_its_maker_is_known() -> None:
    """1 → split → 2 → train → 3, and a later split that had 2 from the cache."""
    split, train, hit = (execution(number) for number in (1, 2, 3))
    with projected(logs.cache_hit()) as graph:
        upstream = graph.closure([artifact(3)], Direction.UPSTREAM, limits=Limits())
        downstream = graph.closure([artifact(1)], Direction.DOWNSTREAM, limits=Limits())
        of_hit = graph.closure([hit], Direction.DOWNSTREAM, limits=Limits())
        connected = graph.closure([hit], Direction.BOTH, limits=Limits())
        from_hit = graph.paths(hit, artifact(3), limits=Limits())
        raw = graph.neighbours([artifact(2)], Direction.UPSTREAM)

    assert upstream.nodes == [artifact(3), train, artifact(2), split, artifact(1)]
    # The later split did use 1, and nothing came of it.
    assert downstream.nodes == [artifact(1), split, hit, artifact(2), train, artifact(3)]
    assert not any(edge.type.is_output and edge.execution_id == hit.id for edge in downstream.edges)
    assert of_hit.nodes == [hit]
    assert from_hit.paths == []
    assert len(connected.nodes) == 6
    assert len(connected.edges) == 6
    assert [edge.execution_id for edge in raw[artifact(2)]] == [split.id, hit.id]


def test_a_cache_hit_counts_when_nobody_else_is_known_and_until_it_turns_out_otherwise() -> None:
    *commits, maker = logs.cache_hit_before_its_maker()
    with projected(commits) as graph:
        alone = graph.closure([artifact(2)], Direction.UPSTREAM, limits=Limits())
        graph.apply([maker], store_id=oracle.STORE)
        known = graph.closure([artifact(2)], Direction.UPSTREAM, limits=Limits())
        # It was a cache hit too.
        change = changes.Changes(executions=[logs.step(9, ExecutionState.CACHED)])
        graph.apply([changes.Commit(seq=maker.seq + 1, changes=change)], store_id=oracle.STORE)
        both = graph.closure([artifact(2)], Direction.UPSTREAM, limits=Limits())

    assert alone.nodes == [artifact(2), execution(3), artifact(1)]
    assert known.nodes == [artifact(2), execution(9)]
    assert both.nodes == [artifact(2), execution(3), execution(9), artifact(1)]


@pytest.mark.parametrize("type_id", sorted(oracle.HANDING_ON))
def test_a_group_or_an_importer_is_no_source_of_what_a_task_made(type_id: int) -> None:
    with projected(logs.handed_on(type_id)) as graph:
        upstream = graph.closure([artifact(2)], Direction.UPSTREAM, limits=Limits())
        downstream = graph.closure([artifact(3)], Direction.DOWNSTREAM, limits=Limits())
        connected = graph.closure([artifact(2)], Direction.BOTH, limits=Limits())
        # The task was deleted: what is left is that the artifact came from there.
        change = changes.Changes(deleted_executions=[changes.Deletion(id=1)])
        graph.apply([changes.Commit(seq=2, changes=change)], store_id=oracle.STORE)
        alone = graph.closure([artifact(2)], Direction.UPSTREAM, limits=Limits())

    assert upstream.nodes == [artifact(2), execution(1), artifact(1)]
    assert downstream.nodes == [artifact(3), execution(2)]
    assert len(connected.nodes) == 5
    assert alone.nodes == [artifact(2), execution(2), artifact(3)]


def test_twenty_thousand_cache_hits_do_not_slow_a_walk_down() -> None:
    part = oracle.type_changes()
    part.artifacts.add(id=1, type_id=1)
    for number in range(1, 20_001):
        part.executions.append(logs.step(number, ExecutionState.CACHED))
        part.events.append(oracle.event(1, number, EventType.OUTPUT))
    with projected(oracle.commits_of([part])) as graph:
        found = graph.closure([artifact(1)], Direction.UPSTREAM, limits=Limits(nodes=100_000, seconds=5))

    # Looking from each of them at all the others would take a minute.
    assert found.cuts == set()
    assert len(found.nodes) == 20_001


def test_a_chain_of_two_thousand_levels_is_walked_to_its_end() -> None:
    with projected(logs.chain(1000)) as graph:
        upstream = graph.closure([execution(1000)], Direction.UPSTREAM, limits=Limits())
        path = graph.paths(artifact(1), execution(1000), limits=Limits())

    assert len(upstream.nodes) == 2000
    assert upstream.nodes[-1] == artifact(1)
    assert upstream.hops[artifact(1)] == 1999
    assert len(upstream.edges) == 1999
    assert upstream.cuts == set()
    assert [len(found) for found in path.paths] == [2000]
    assert path.cuts == set()


def test_paths_do_not_explode_where_there_are_exponentially_many() -> None:
    with projected(logs.ladder(200)) as graph:
        found = graph.paths(artifact(1), artifact(201), limits=Limits(seconds=30), most=25)
        short = graph.paths(artifact(1), artifact(201), limits=Limits(hops=399), most=25)

    assert [len(path) for path in found.paths] == [401] * 25
    assert len({tuple(path) for path in found.paths}) == 25
    assert found.cuts == {Cut.PATHS}
    assert not short.paths
    assert short.cuts == {Cut.HOPS}


def test_paths_through_a_tangle_of_cycles_end_in_time_and_say_so() -> None:
    with projected(logs.tangle(20)) as graph:
        found = graph.paths(artifact(1), artifact(2), limits=Limits(seconds=0.3), most=10_000_000)

    assert Cut.TIME in found.cuts
    assert len(found.paths) > 100
    assert [len(path) for path in found.paths] == sorted(len(path) for path in found.paths)


def test_a_closure_without_time_says_so() -> None:
    with projected(logs.chain(50)) as graph:
        found = graph.closure([artifact(1)], Direction.DOWNSTREAM, limits=Limits(seconds=0))

    assert found.cuts == {Cut.TIME}
    assert found.nodes == [artifact(1)]


def test_a_path_from_a_hub_is_found_from_the_other_end() -> None:
    with projected(logs.hub(3000)) as graph:
        found = graph.paths(artifact(1), artifact(2900), limits=Limits(nodes=100))

    assert found.paths == [[artifact(1), execution(2899), artifact(2900)]]
    assert found.cuts == set()


def test_a_path_out_of_a_wide_past_is_found_from_its_beginning() -> None:
    part = oracle.type_changes()
    part.artifacts.add(id=1, type_id=2)
    for number in range(1, 3001):
        part.executions.add(id=number, type_id=11)
        part.artifacts.add(id=number + 1, type_id=1)
        part.events.append(oracle.event(number + 1, number, EventType.INPUT))
        part.events.append(oracle.event(1, number, EventType.OUTPUT))
    with projected(oracle.commits_of([part])) as graph:
        found = graph.paths(artifact(2900), artifact(1), limits=Limits(nodes=100))

    assert found.paths == [[artifact(2900), execution(2899), artifact(1)]]
    assert found.cuts == set()
