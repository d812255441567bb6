"""`kill -9` of `mdstore serve` while clients write: what was acknowledged is there, and nothing is there by half."""

import random
import socket
import threading
import time
from pathlib import Path

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.client.retry import Retry
from mdstore.errors import MetadataError, Unavailable
from mdstore.wire import mlmd, service
from tests.store.log import of_log, of_tables, verify
from tests.store.writing import Nodes, call
from tests.up.processes import Running
from tests.up.processes import mdstore as command

pytestmark = pytest.mark.slow

KILLS = 10
OUTPUTS = 3


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def serve(url: str, port: int) -> Running:
    server = command("serve", "--database", url, "--grpc-port", str(port))
    server.wait_for(rf"127\.0\.0\.1:{port}")
    return server


class Writers:
    """Clients that each write executions with artifacts, events and a context, one after the other."""

    def __init__(self, port: int, nodes: Nodes, count: int, life: int) -> None:
        self.acknowledged: dict[str, int] = {}
        """Name of an execution -> its id."""
        self.unexpected: list[MetadataError] = []
        self._nodes = nodes
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(f"{life}.{n}",)) for n in range(count)]

    def _write(self, who: str) -> None:
        # No second try: whether a write that was cut off was done is what this is about.
        with mdstore.connect(f"grpc://127.0.0.1:{self._port}", retry=Retry(tries=1)) as client:
            number = 0
            while not self._stop.is_set():
                number += 1
                name = f"{who}.{number}"
                try:
                    self.acknowledged[name] = self._put(client, name)
                except Unavailable:
                    return
                except MetadataError as error:
                    self.unexpected.append(error)

    def _put(self, client: Client, name: str) -> int:
        response = call(
            client,
            "PutExecution",
            execution=self._nodes.new("execution", name=name, custom={"x": name}),
            artifact_event_pairs=[
                {"artifact": self._nodes.new("artifact", name=f"{name}/{n}"), "event": {"type": mlmd.Event.OUTPUT}}
                for n in range(OUTPUTS)
            ],
            contexts=[self._nodes.new("context", name="shared")],
            options=service.PutExecutionRequest.Options(reuse_context_if_already_exist=True),
        )
        return int(response.execution_id)

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


def test_nothing_acknowledged_is_lost_and_nothing_is_there_by_half(url: str) -> None:
    chance = random.Random(20)
    port = free_port()
    with mdstore.connect(url) as client:
        nodes = Nodes(client)
    acknowledged: dict[str, int] = {}
    for life in range(KILLS):
        with serve(url, port) as server, Writers(port, nodes, chance.randint(8, 16), life) as writers:
            time.sleep(chance.uniform(0.05, 0.6))
            server.process.kill()
            server.process.wait(10)
        assert writers.unexpected == []
        acknowledged |= writers.acknowledged

        verify(url)
        with mdstore.connect(url) as client:
            tables = of_tables(client)
            assert of_log(client) == tables
        executions = {found.name: found.id for found in tables["executions"].values() if found.name}
        assert acknowledged.items() <= executions.items()
        made: dict[int, list[str]] = {}
        for event in tables["events"]:
            made.setdefault(event.execution_id, []).append(tables["artifacts"][event.artifact_id].name)
        associated = {link.execution_id for link in tables["associations"]}
        attributed = {link.artifact_id for link in tables["attributions"]}
        for name, execution in executions.items():
            assert sorted(made[execution]) == [f"{name}/{n}" for n in range(OUTPUTS)]
            assert execution in associated
        named = {found.id for found in tables["artifacts"].values() if found.name}
        assert len(named) == OUTPUTS * len(executions)
        assert named == attributed
        assert [found.name for found in tables["contexts"].values()].count("shared") <= 1
    assert len(acknowledged) > 20 * KILLS


def test_a_server_that_is_stopped_finishes_what_it_accepted(url: str) -> None:
    with mdstore.connect(url) as client:
        nodes = Nodes(client)
    port = free_port()
    with serve(url, port) as server, Writers(port, nodes, 16, 0) as writers:
        time.sleep(0.3)
        server.process.terminate()
        code, took = server.end()
    assert (code, took < 3) == (0, True)
    assert writers.unexpected == []
    with mdstore.connect(url) as client:
        there = {found.name for found in of_tables(client)["executions"].values() if found.name}
    # Those too whose answer the end of the connection swallowed are whole; of the others nothing is there.
    assert writers.acknowledged.keys() <= there
    assert len(there - writers.acknowledged.keys()) <= 16
    verify(url)


def test_a_port_that_is_taken_is_said_in_one_line(url: str, tmp_path: Path) -> None:
    port = free_port()
    with (
        serve(url, port),
        command("serve", "--database", f"sqlite:///{tmp_path}/b.db", "--grpc-port", str(port)) as late,
    ):
        code, _ = late.end(seconds=20)
        assert code == 2
        assert len(late.printed.strip().splitlines()) == 1
        assert str(port) in late.printed
        with mdstore.connect(f"grpc://127.0.0.1:{port}") as client:
            assert call(client, "GetArtifactTypes") is not None
