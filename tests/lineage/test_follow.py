"""`mdstore lineage follow` as a process beside a real `mdstore serve`."""

import random
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from mdstore.client.connect import connect
from mdstore.services import Plan
from mdstore_lineage.graph import Direction, Limits, LineageGraph, Node
from mdstore_lineage.opening import open_graph
from mdstore_lineage.position import wait_for_position
from mdstore_lineage.service import service
from tests.lineage import oracle
from tests.lineage.processes import Steps, again_and_again, follow, head, running, serve, until
from tests.ports import free_port


def is_there(graph: LineageGraph, node: Node) -> bool:
    return bool(graph.neighbours([node], Direction.UPSTREAM))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_write_is_in_the_graph_soon_and_the_process_ends_when_told(
    tmp_path: Path, graph_url: str, how: signal.Signals
) -> None:
    port = free_port()
    store_url = f"grpc://127.0.0.1:{port}"
    with running(*serve(tmp_path, port)) as server, running(*follow(store_url, graph_url)) as projector:
        server.wait_for("serving")
        projector.wait_for("following the store")
        graph = open_graph(graph_url)
        with connect(store_url) as store:
            steps = Steps(store)
            latencies = []
            for number in range(20):
                execution_id, artifact_id = steps.run(f"step {number}")
                written = time.monotonic()
                until(partial(is_there, graph, oracle.artifact(artifact_id)))
                latencies.append(time.monotonic() - written)
            found = graph.closure([oracle.artifact(artifact_id)], Direction.UPSTREAM, limits=Limits())
        graph.close()
        code, seconds = projector.stop(how)

    assert len(found.nodes) == 40
    assert found.nodes[1] == oracle.execution(execution_id)
    assert code == 0
    assert seconds < 2
    assert sorted(latencies)[len(latencies) // 2] < 1


def test_a_store_that_comes_back_is_followed_on(tmp_path: Path, graph_url: str) -> None:
    port = free_port()
    store_url = f"grpc://127.0.0.1:{port}"
    with running(*follow(store_url, graph_url)) as projector:
        assert "because" in projector.wait_for("waiting")
        for number in range(3):
            with running(*serve(tmp_path, port)) as server:
                server.wait_for("serving")
                projector.wait_for("following the store")
                with connect(store_url) as store:
                    Steps(store).run(f"step {number}")
                graph = open_graph(graph_url)
                wait_for_position(graph, head(store_url), timeout=10)
                graph.close()
                server.kill()

    waits = [line for line in projector.seen if '"waiting"' in line]
    assert len(waits) <= 3, waits


def test_killed_projectors_and_stores_double_nothing_and_lose_nothing(tmp_path: Path, graph_url: str) -> None:
    port = free_port()
    store_url = f"grpc://127.0.0.1:{port}"
    dice = random.Random(7)
    is_over = threading.Event()

    def write() -> None:
        with connect(store_url) as store:
            made: list[Steps] = []
            again_and_again(lambda: made.append(Steps(store)))
            number = 0
            while not is_over.is_set():
                number += 1
                again_and_again(partial(made[0].run, f"step {number}"))

    with running(*serve(tmp_path, port)) as server:
        server.wait_for("serving")
        writing = threading.Thread(target=write)
        writing.start()
        for _ in range(5):
            with running(*follow(store_url, graph_url)) as projector:
                projector.wait_for("following the store")
                time.sleep(dice.uniform(0, 0.3))
                projector.kill()
        server.kill()
        with running(*serve(tmp_path, port)) as again:
            again.wait_for("serving")
            is_over.set()
            writing.join()
            with connect(store_url) as store:
                commits = [commit for response in store.follow(once=True) for commit in response.commits]
            with running(*follow(store_url, graph_url)):
                graph = open_graph(graph_url)
                wait_for_position(graph, commits[-1].seq, timeout=20)

    facts = oracle.facts_of(commits)
    assert len(facts.types) > 20
    everything = graph.closure(facts.types, Direction.BOTH, limits=Limits(nodes=1_000_000))
    assert set(everything.nodes) == set(facts.types)
    assert everything.edges == oracle.inner_edges(facts, facts.types)
    assert everything.position == commits[-1].seq
    graph.close()


def test_a_second_projector_is_refused_until_the_first_is_gone_even_killed(tmp_path: Path, graph_url: str) -> None:
    port = free_port()
    store_url = f"grpc://127.0.0.1:{port}"
    with running(*serve(tmp_path, port)) as server, running(*follow(store_url, graph_url)) as first:
        server.wait_for("serving")
        first.wait_for("following the store")
        with running(*follow(store_url, graph_url)) as second:
            code = second.end()
        assert code == 2
        assert "".join(second.seen) == (
            f"mdstore: another projector (process {first.pid}) follows a store into the lineage graph "
            f"{tmp_path}/lineage.db: stop it, or name another graph\n"
        )

        first.kill()
        with running(*follow(store_url, graph_url)) as third:
            assert third.wait_for("following the store")
            assert (tmp_path / "lineage.db.lock").read_text() == f"{third.pid}\n"


@pytest.mark.parametrize(
    ("store", "graph", "says"),
    [
        ("grpc://127.0.0.1:9", "neo4j://x", "'neo4j://x' is no lineage graph's URL: write sqlite:///FILE"),
        ("grpc://127.0.0.1:9", "sqlite:////no/such/lineage.db", "there is no folder /no/such"),
        ("grpc://nowhere", "sqlite:///{here}/lineage.db", "'grpc://nowhere' is no store's URL"),
        ("", "sqlite:///{here}/lineage.db", "which store? Say --store"),
        ("grpc://127.0.0.1:9", "", "which graph? Say --graph"),
        ("sqlite:////no/such/metadata.db", "sqlite:///{here}/lineage.db", "/no/such"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(tmp_path: Path, store: str, graph: str, says: str) -> None:
    with running(*follow(store, graph.format(here=tmp_path))) as process:
        code = process.end()

    output = "".join(process.seen)
    assert code == 2
    assert says in output
    assert output.count("\n") == 1
    assert output.startswith("mdstore: ")


def test_the_service_says_how_it_is_started_and_when_it_is_ready(tmp_path: Path) -> None:
    found = service(Plan(data=tmp_path, grpc_port=5, http_port=6))

    assert found.name == "lineage"
    assert found.after == ("store",)
    assert found.ready_line == "following the store"
    assert found.arguments == follow("grpc://127.0.0.1:5", f"sqlite:///{tmp_path}/lineage.db")
