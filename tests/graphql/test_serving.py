"""`mdstore graphql serve` as a process: HTTP, health, bad input, and its end."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import mdstore
from mdstore.services import Plan
from mdstore_graphql.app import MAX_BODY_BYTES
from mdstore_graphql.commands import GRACE_S
from mdstore_graphql.schema import sdl
from mdstore_graphql.service import service
from mdstore_lineage.opening import open_graph
from mdstore_lineage.projector import Projector
from tests.graphql import world
from tests.graphql.processes import Server, run, serving

QUERY = "{ runs { totalCount } }"
ANSWER = {"data": {"runs": {"totalCount": 4}}}


@pytest.fixture(scope="module")
def server(urls: tuple[str, str]) -> Iterator[Server]:
    with serving(*urls) as started:
        yield started


def test_queries_by_post_and_get(server: Server) -> None:
    posted = httpx.post(server.url, json={"query": QUERY})
    got = httpx.get(server.url, params={"query": QUERY})
    assert posted.json() == got.json() == ANSWER
    assert posted.headers["content-type"] == "application/json"


def test_an_answer_on_a_kept_connection_does_not_wait_for_an_acknowledgement(server: Server) -> None:
    # Where it does, none of them takes less than 40 ms, however idle the machine is.
    with httpx.Client() as client:
        assert min(client.post(server.url, json={"query": QUERY}).elapsed.total_seconds() for _ in range(10)) < 0.035


def test_a_mutation_by_get_is_refused(server: Server) -> None:
    response = httpx.get(server.url, params={"query": "mutation { x }"})
    assert response.status_code == 400
    assert "mutation" in response.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"query": 3}', b'{"variables": {}}', b"\xff\xfe"])
def test_a_body_that_is_no_query_is_a_bad_request(server: Server, body: bytes) -> None:
    response = httpx.post(server.url, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert "Traceback" not in response.text


def test_health_tells_the_positions(server: Server) -> None:
    response = httpx.get(server.healthz)
    assert response.status_code == 200
    answer = response.json()
    assert answer["status"] == "ok"
    assert answer["head"] == answer["position"] > 0


def test_many_at_once_get_their_own_answers(server: Server) -> None:
    found: dict[str, list[str]] = {}

    def ask(name: str) -> None:
        query = "query ($n: String!) { runs(filter: {name: $n}) { nodes { name } } }"
        answers = [httpx.post(server.url, json={"query": query, "variables": {"n": name}}).json() for _ in range(5)]
        found[name] = [answer["data"]["runs"]["nodes"][0]["name"] for answer in answers]

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("day", "first", "second", "fraud")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: [name] * 5 for name in ("day", "first", "second", "fraud")}


def test_what_is_written_is_visible_at_the_position_that_is_demanded(tmp_path: Path) -> None:
    database, graph_url = world.make(tmp_path)
    stopping = threading.Event()
    graph = open_graph(graph_url)
    projector = threading.Thread(
        target=Projector(lambda: mdstore.connect(database), graph, is_stopping=stopping.is_set).run
    )
    projector.start()
    try:
        with serving(database, graph_url) as server, mdstore.connect(database) as client:
            for number in range(10):
                telling = world.Telling()
                telling.artifact(f"new-{number}", "system.Dataset", f"s3://new/{number}")
                telling.artifact("raw", "system.Dataset", "s3://data/2026/raw.csv")
                telling.step(
                    "day", f"derive-{number}", world.ExecutionState.COMPLETE, uses=("raw",), makes=(f"new-{number}",)
                )
                position = client.ingest(telling.request).seq
                query = """query ($u: String!, $p: Position) { artifact(uri: $u) { lineage(minPosition: $p) {
                  position nodes { name } } } }"""
                variables = {"u": f"s3://new/{number}", "p": position}
                answer = httpx.post(server.url, json={"query": query, "variables": variables}).json()
                lineage = answer["data"]["artifact"]["lineage"]
                assert lineage["position"] >= position
                assert [node["name"] for node in lineage["nodes"]] == [
                    f"new-{number}",
                    f"derive-{number}",
                    "raw",
                    "extract",
                ]
    finally:
        stopping.set()
        projector.join()
        graph.close()


def test_a_graph_that_comes_later_is_seen(tmp_path: Path) -> None:
    database, graph_url = world.make(tmp_path, projected=False)
    with serving(database, graph_url) as server:
        health = httpx.get(server.healthz).json()
        assert (health["position"], health["head"] > 0) == (0, True)
        with mdstore.connect(database) as client, contextlib.closing(open_graph(graph_url)) as graph:
            world.project(client, graph)
        health = httpx.get(server.healthz).json()
        assert health["position"] == health["head"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_order_and_soon(urls: tuple[str, str], number: signal.Signals) -> None:
    # A connection that is kept open, as a browser's is.
    with serving(*urls) as server, httpx.Client() as client:
        assert client.post(server.url, json={"query": QUERY}).json() == ANSWER
        code, took, said = server.stop(number)
    assert code == 0
    assert took < GRACE_S + 1
    assert "Traceback" not in said


def test_it_ends_soon_while_requests_wait(urls: tuple[str, str]) -> None:
    with serving(*urls) as server:
        query = '{ lineage(of: ["QXJ0aWZhY3Q6MQ=="], minPosition: 1000000) { position } }'

        def wait_for_ever() -> None:
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(server.url, json={"query": query}, timeout=30)

        threads = [threading.Thread(target=wait_for_ever) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        code, took, said = server.stop()
        for thread in threads:
            thread.join()
    assert code == 0, said
    assert took < GRACE_S + 1.5


def test_a_body_too_large_is_refused_before_it_is_read(server: Server) -> None:
    response = httpx.post(server.url, content=b"x" * (MAX_BODY_BYTES + 1), headers={"content-type": "application/json"})
    assert response.status_code == 413


def refused(*arguments: str) -> str:
    code, printed, said = run("serve", *arguments)
    assert (code, printed) == (2, "")
    assert len(said.splitlines()) == 1, said
    assert said.startswith("mdstore: ")
    return said


def test_a_busy_port_is_one_line_and_exit_code_2(urls: tuple[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused("--database", urls[0], "--graph", urls[1], "--http-port", port)
    assert port in said
    assert "--http-port" in said


@pytest.mark.parametrize("database", ["nonsense", "sqlite:////nowhere/at/all.db"])
def test_a_database_that_cannot_be_opened_is_one_line_and_exit_code_2(urls: tuple[str, str], database: str) -> None:
    refused("--database", database, "--graph", urls[1], "--http-port", "0")


@pytest.mark.parametrize("graph", ["nonsense", "sqlite:////nowhere/at/all.db"])
def test_a_graph_that_cannot_be_opened_is_one_line_and_exit_code_2(urls: tuple[str, str], graph: str) -> None:
    refused("--database", urls[0], "--graph", graph, "--http-port", "0")


def test_files_that_are_something_else_are_one_line_and_exit_code_2(urls: tuple[str, str], tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_text("not a database at all, but long enough to be looked at\n" * 100)
    url = f"sqlite:///{other}"
    assert "other.db" in refused("--database", url, "--graph", urls[1], "--http-port", "0")
    assert "other.db" in refused("--database", urls[0], "--graph", url, "--http-port", "0")


def test_missing_and_impossible_settings_are_one_line_and_exit_code_2() -> None:
    assert "--database" in refused()
    assert "--graph" in refused("--database", "sqlite:///x.db")
    assert "--http-port" in refused("--database", "a", "--graph", "b", "--http-port", "65536")


def test_the_schema_is_printed_without_a_server() -> None:
    assert run("schema") == (0, sdl(), "")


def test_its_part_in_up_is_ready_when_it_is_healthy(urls: tuple[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    plan = Plan(data=tmp_path, grpc_port=1, http_port=port)
    part = service(plan)
    assert (part.name, part.after, part.ready_url) == ("graphql", ("lineage",), f"http://127.0.0.1:{port}/healthz")
    world.make(tmp_path)
    assert part.arguments[:2] == ("graphql", "serve")
    with serving(plan.database_url, plan.graph_url, *part.arguments[6:]) as server:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.ConnectError):
                if httpx.get(str(part.ready_url)).status_code == 200:
                    break
        assert httpx.post(server.url, json={"query": QUERY}).json() == ANSWER


def test_a_read_that_still_runs_is_left_behind() -> None:
    program = """
import threading, time
from mdstore_graphql.app import READS
from mdstore_graphql.commands import _leave_reads_behind
threading.Thread(target=time.sleep, args=(60,), name=f"{READS}-0").start()
_leave_reads_behind(READS)
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False, capture_output=True)
    assert done.returncode == 0
    assert time.monotonic() - begun < 20
