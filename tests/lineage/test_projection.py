"""What applying commits promises: each counts once, in order, wherever batches end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstore.errors import FailedPrecondition, Unavailable
from mdstore.values import EventType
from mdstore.wire import changes, mlmd
from mdstore_lineage.graph import Direction, Limits, LineageGraph
from tests.lineage import oracle
from tests.lineage.conftest import content, empty_graph
from tests.lineage.oracle import STORE, artifact, execution


@given(oracle.histories(), st.lists(st.integers(1, 9), max_size=20))
def test_batch_size_does_not_change_the_graph(commits: list[changes.Commit], sizes: list[int]) -> None:
    with empty_graph() as graph:
        graph.apply(commits, store_id=STORE)
        at_once = content(graph)
    with empty_graph() as graph:
        rest = commits
        for size in sizes:
            graph.apply(rest[:size], store_id=STORE)
            rest = rest[size:]
        graph.apply(rest, store_id=STORE)
        assert content(graph) == at_once


@given(oracle.histories(), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=10))
def test_commits_that_come_again_change_nothing(commits: list[changes.Commit], batches: list[tuple[int, int]]) -> None:
    with empty_graph() as graph:
        graph.apply(commits, store_id=STORE)
        once = content(graph)
        graph.clear()
        position = 0
        for back, size in [*batches, (0, len(commits))]:
            start = max(0, position - back)
            graph.apply(commits[start : start + size], store_id=STORE)
            position = max(position, min(start + size, len(commits)))
            assert graph.position == position
        assert content(graph) == once


def test_an_empty_graph_is_at_position_zero_of_no_store(graph: LineageGraph) -> None:
    assert (graph.position, graph.position_hash, graph.store_id) == (0, b"", None)
    graph.apply([], store_id=STORE)
    assert (graph.position, graph.store_id) == (0, None)


def two_commits() -> list[changes.Commit]:
    first = oracle.type_changes()
    first.artifacts.add(id=1, type_id=1)
    first.executions.add(id=1, type_id=11)
    return oracle.commits_of([first, changes.Changes(events=[oracle.event(1, 1, EventType.INPUT, "data")])])


def test_the_position_is_the_last_commits(graph: LineageGraph) -> None:
    graph.apply(two_commits(), store_id=STORE)

    assert (graph.position, graph.position_hash, graph.store_id) == (2, b"hash-2", STORE)


def test_a_gap_is_refused_and_changes_nothing(graph: LineageGraph) -> None:
    first, second = two_commits()
    third = changes.Commit(seq=4)

    with pytest.raises(FailedPrecondition, match="commit 2 came, but the graph is waiting for commit 1"):
        graph.apply([second], store_id=STORE)
    with pytest.raises(FailedPrecondition, match="commit 4 came, but the graph is waiting for commit 3"):
        graph.apply([first, second, third], store_id=STORE)
    assert graph.position == 0
    assert not graph.neighbours([artifact(1)], Direction.BOTH)


def test_another_stores_commits_are_refused_until_the_graph_is_cleared(graph: LineageGraph) -> None:
    graph.apply(two_commits(), store_id=STORE)

    with pytest.raises(FailedPrecondition, match="holds the store store-1, not store-2"):
        graph.apply([changes.Commit(seq=3)], store_id="store-2")

    graph.clear()
    assert (graph.position, graph.position_hash, graph.store_id) == (0, b"", None)
    assert not graph.neighbours([artifact(1)], Direction.BOTH)
    graph.apply(two_commits()[:1], store_id="store-2")
    assert (graph.position, graph.store_id) == (1, "store-2")


def test_a_graph_that_is_being_rebuilt_says_how_far_it_is_instead_of_half_an_answer(graph: LineageGraph) -> None:
    nodes = [artifact(1)]
    questions = (
        lambda: graph.neighbours(nodes, Direction.BOTH),
        lambda: graph.closure(nodes, Direction.BOTH, limits=Limits()),
        lambda: graph.paths(artifact(1), execution(1), limits=Limits()),
        lambda: graph.runs_of(nodes),
    )
    first, second = two_commits()
    graph.apply([first], store_id="store-0")
    graph.clear(until=2)
    for position, commits in ((0, []), (1, [first])):
        graph.apply(commits, store_id=STORE)
        for question in questions:
            with pytest.raises(Unavailable, match=f"is being rebuilt from the store and is at commit {position} of 2"):
                question()
        assert (graph.position, graph.until) == (position, 2)

    graph.apply([second], store_id=STORE)
    for question in questions:
        question()
    assert len(graph.neighbours(nodes, Direction.BOTH)[artifact(1)]) == 1


def test_an_updated_node_keeps_its_edges_and_its_beginning(graph: LineageGraph) -> None:
    commits = two_commits()
    update = changes.Changes(executions=[mlmd.Execution(id=1, type_id=11, last_known_state=mlmd.Execution.COMPLETE)])
    graph.apply([*commits, changes.Commit(seq=3, changes=update)], store_id=STORE)

    assert content(graph)["node"] == [(2, 1, 1, 0, 0), (3, 11, 1, 0, 0)]
    assert list(graph.neighbours([execution(1)], Direction.UPSTREAM)) == [execution(1)]
