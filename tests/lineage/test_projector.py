"""The projector between real stores in this process and a graph: what it follows, and when it begins again."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mdstore.client.client import Client
from mdstore.client.connect import connect
from mdstore.errors import MetadataError, Unavailable, Unimplemented
from mdstore.store.store import Store
from mdstore.wire import changes
from mdstore_lineage.graph import Direction, Limits, LineageGraph
from mdstore_lineage.position import wait_for_position
from mdstore_lineage.projector import Projector
from tests.lineage import oracle
from tests.lineage.oracle import artifact, execution
from tests.lineage.processes import Steps, head, until
from tests.store.writing import node, put, put_type


@contextmanager
def projecting(
    store_url: str, graph: LineageGraph, *, connect: Callable[[str], Client] = connect, batch_changes: int = 2000
) -> Iterator[None]:
    stop = threading.Event()
    projector = Projector(lambda: connect(store_url), graph, is_stopping=stop.is_set, batch_changes=batch_changes)
    thread = threading.Thread(target=projector.run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


def one_by_one(store_url: str) -> Client:
    """A client that gets one commit in each message of the feed, as from a store with very large commits."""
    client = connect(store_url)
    follow = client.follow

    def slowly(from_seq: int = 1, *, once: bool = False, **_: int) -> Iterator[changes.FollowResponse]:
        for response in follow(from_seq, once=once, max_commits=1):
            yield response
            time.sleep(0.01)

    client.follow = slowly  # type: ignore[method-assign]  # how many there are in a message is the store's choice
    return client


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'metadata.db'}"


def commits_in(store_url: str) -> list[changes.Commit]:
    with connect(store_url) as store:
        return [commit for response in store.follow(once=True) for commit in response.commits]


def test_what_is_there_and_what_comes_is_projected(store_url: str, graph: LineageGraph) -> None:
    with connect(store_url) as store:
        steps = Steps(store)
        first, _ = steps.run("one")
        with projecting(store_url, graph):
            wait_for_position(graph, head(store_url), timeout=10)
            last, model = steps.run("two")
            wait_for_position(graph, head(store_url), timeout=10)

    upstream = graph.closure([artifact(model)], Direction.UPSTREAM, limits=Limits())
    assert [type(node).__name__ for node in upstream.nodes] == [
        "ArtifactNode",
        "ExecutionNode",
        "ArtifactNode",
        "ExecutionNode",
    ]
    assert upstream.nodes[1::2] == [execution(last), execution(first)]
    assert [edge.name for edge in upstream.edges] == ["model", "data", "model"]
    assert upstream.position == head(store_url)
    assert len(graph.runs_of([execution(first)])[execution(first)]) == 1


@pytest.mark.parametrize("batch_changes", [1, 2000])
def test_the_graph_is_what_the_log_says(store_url: str, graph: LineageGraph, batch_changes: int) -> None:
    with connect(store_url) as store:
        steps = Steps(store)
        for number in range(30):
            steps.run(f"step {number}")
    with capture_logs() as logs, projecting(store_url, graph, batch_changes=batch_changes):
        wait_for_position(graph, head(store_url), timeout=10)
        until(lambda: logs[-1]["event"] == "caught up")

    assert logs[0] == {"event": "following the store", "position": 0, "log_level": "info"}
    assert logs[-1]["position"] == head(store_url)

    facts = oracle.facts_of(commits_in(store_url))
    everything = graph.closure(facts.types, Direction.BOTH, limits=Limits())
    assert set(everything.nodes) == set(facts.types)
    assert everything.edges == oracle.inner_edges(facts, facts.types)


def test_a_graph_of_another_store_is_projected_anew(tmp_path: Path, store_url: str, graph: LineageGraph) -> None:
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    with connect(other_url) as other:
        steps = Steps(other)
        for number in range(3):
            steps.run(f"old {number}")
    with connect(store_url) as store:
        steps = Steps(store)
        for number in range(4):
            steps.run(f"new {number}")
    with projecting(other_url, graph):
        wait_for_position(graph, head(other_url), timeout=10)
    old = graph.store_id

    with capture_logs() as logs, projecting(store_url, graph):
        until(lambda: graph.store_id != old and graph.position == head(store_url))

    (cleared,) = [event for event in logs if event["event"] == "cleared the graph"]
    assert cleared["because"].startswith("it is another store")
    assert cleared["store_id"] == old
    facts = oracle.facts_of(commits_in(store_url))
    everything = graph.closure(facts.types, Direction.BOTH, limits=Limits())
    assert everything.edges == oracle.inner_edges(facts, facts.types)


@pytest.mark.parametrize(
    ("steps_after", "because"),
    [
        (0, "the store's log ends before the graph's position"),
        (5, "the store has another history, as after restoring a backup"),
    ],
)
def test_a_restored_backup_is_projected_anew(
    tmp_path: Path, store_url: str, graph: LineageGraph, steps_after: int, because: str
) -> None:
    database, backup = tmp_path / "metadata.db", tmp_path / "backup.db"
    with connect(store_url) as store:
        Steps(store).run("one")
    shutil.copy(database, backup)
    with connect(store_url) as store:
        steps = Steps(store)
        for number in range(3):
            steps.run(f"lost {number}")
    with projecting(store_url, graph):
        wait_for_position(graph, head(store_url), timeout=10)

    for rest in tmp_path.glob("metadata.db*"):
        rest.unlink()
    shutil.copy(backup, database)
    with connect(store_url) as store:
        steps = Steps(store)
        for number in range(steps_after):
            steps.run(f"other {number}")
    commits = commits_in(store_url)
    with capture_logs() as logs, projecting(store_url, graph):
        until(lambda: (graph.position, graph.position_hash) == (commits[-1].seq, commits[-1].hash))

    (cleared,) = [event for event in logs if event["event"] == "cleared the graph"]
    assert cleared["because"] == because
    facts = oracle.facts_of(commits)
    everything = graph.closure(facts.types, Direction.BOTH, limits=Limits())
    assert everything.edges == oracle.inner_edges(facts, facts.types)


def test_readers_get_whole_answers_or_none_while_a_graph_is_projected_anew(
    tmp_path: Path, store_url: str, graph: LineageGraph
) -> None:
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    for url in (store_url, other_url):
        with connect(url) as store:
            steps = Steps(store)
            for number in range(40):
                last, _ = steps.run(f"step {number}")
    with projecting(other_url, graph):
        wait_for_position(graph, head(other_url), timeout=10)
    with connect(store_url) as store:
        [page] = store.follow(once=True)
    store_id, end = page.store_id, page.head_seq
    seen: list[tuple[int, int]] = []
    refusals: list[str] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            try:
                found = graph.closure([execution(last)], Direction.UPSTREAM, limits=Limits())
            except Unavailable as error:
                refusals.append(str(error))
            else:
                seen.append((found.position, len(found.nodes)))

    reader = threading.Thread(target=read)
    reader.start()
    with projecting(store_url, graph, connect=one_by_one, batch_changes=1):
        # However slow the machine is: the reader has asked in the midst of it, and asks once more at its end.
        until(lambda: (graph.store_id, graph.position) == (store_id, end), seconds=60)
        answers = len(seen)
        until(lambda: len(seen) > answers, seconds=60)
    is_over.set()
    reader.join()

    # Both stores have the same shape: 40 executions and what 39 of them made for the next.
    assert set(seen) == {(end, 79)}
    assert refusals
    assert all(f" of {end}: ask again later" in refusal for refusal in refusals)


def test_a_rebuild_whose_end_the_store_has_lost_begins_again(store_url: str, graph: LineageGraph) -> None:
    with connect(store_url) as store:
        steps = Steps(store)
        for number in range(3):
            steps.run(f"step {number}")
        [page] = store.follow(once=True)
    graph.clear(until=1000)
    graph.apply(page.commits[:2], store_id=page.store_id)

    with capture_logs() as logs, projecting(store_url, graph):
        until(lambda: graph.position == page.head_seq)

    (cleared,) = [event for event in logs if event["event"] == "cleared the graph"]
    assert cleared["because"] == "the store's log ends before the position to which the graph was being rebuilt"
    assert graph.until == page.head_seq
    assert graph.closure([execution(1)], Direction.DOWNSTREAM, limits=Limits()).position == page.head_seq


def test_a_rebuild_that_was_interrupted_goes_on(store_url: str, graph: LineageGraph) -> None:
    with connect(store_url) as store:
        steps = Steps(store)
        for number in range(3):
            steps.run(f"step {number}")
        [page] = store.follow(once=True)
    graph.clear(until=page.head_seq)
    graph.apply(page.commits[:2], store_id=page.store_id)

    with capture_logs() as logs, projecting(store_url, graph):
        until(lambda: graph.position == page.head_seq)

    assert logs[0] == {"event": "following the store", "position": 2, "log_level": "info"}
    assert graph.closure([execution(1)], Direction.DOWNSTREAM, limits=Limits()).position == page.head_seq


def test_a_graph_that_somebody_emptied_is_filled_again(store_url: str, graph: LineageGraph) -> None:
    with connect(store_url) as store:
        steps = Steps(store)
        with projecting(store_url, graph):
            steps.run("one")
            wait_for_position(graph, head(store_url), timeout=10)
            graph.clear()
            steps.run("two")
            wait_for_position(graph, head(store_url), timeout=10)

    facts = oracle.facts_of(commits_in(store_url))
    assert set(graph.closure(facts.types, Direction.BOTH, limits=Limits()).nodes) == set(facts.types)


def test_a_store_that_is_away_is_waited_for_and_said_once(graph: LineageGraph) -> None:
    tries = []
    stop = threading.Event()

    def connect_in_vain() -> Client:
        tries.append(1)
        if len(tries) == 4:
            stop.set()
        raise Unavailable("nobody is there")

    with capture_logs() as logs:
        Projector(connect_in_vain, graph, is_stopping=stop.is_set).run()

    assert len(tries) == 4
    assert [(event["event"], event["because"]) for event in logs] == [("waiting", "nobody is there")]


def test_what_no_waiting_helps_against_ends_the_projector(graph: LineageGraph) -> None:
    def connect_wrongly() -> Client:
        raise Unimplemented("Follow is not implemented")

    with pytest.raises(MetadataError, match="Follow is not implemented"):
        Projector(connect_wrongly, graph, is_stopping=lambda: False).run()


@pytest.mark.parametrize("artifacts", [0, 3000])
def test_a_log_that_is_compacted_while_it_is_read_is_projected_anew(
    store_url: str, graph: LineageGraph, artifacts: int
) -> None:
    """With many nodes, several pages stand for the old commits, one of them at the position that comes next."""
    with connect(store_url) as store:
        steps = Steps(store)
        for number in range(20):
            steps.run(f"step {number}")
        type_id = put_type(store, "artifact", "many")
        put(store, "artifact", *(node("artifact", type_id=type_id) for _ in range(artifacts)))
        steps.run("last but one")
        steps.run("last")
    newest = head(store_url)
    compacted: list[int] = []

    def connected(url: str) -> Client:
        client = one_by_one(url)
        slowly = client.follow

        def interrupted(from_seq: int = 1, *, once: bool = False, **_: int) -> Iterator[changes.FollowResponse]:
            for response in slowly(from_seq, once=once):
                yield response
                if not compacted and response.commits[-1].seq == newest - 1:
                    with Store.open(url) as store:
                        compacted.append(store.compact(newest).first_seq)

        client.follow = interrupted  # type: ignore[method-assign]  # as in `one_by_one`
        return client

    with capture_logs() as logs, projecting(store_url, graph, connect=connected):
        until(lambda: bool(compacted))
        wait_for_position(graph, head(store_url), timeout=30)
    assert (compacted[0] < newest - 1) is bool(artifacts)
    assert "cleared the graph" in [entry["event"] for entry in logs]
    facts = oracle.facts_of(commits_in(store_url))
    assert graph.closure(facts.types, Direction.BOTH, limits=Limits()).edges == oracle.inner_edges(facts, facts.types)
