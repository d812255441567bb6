"""The bench's own client of gRPC, and the stores that it fills: what it says happened is what happened."""

from collections.abc import Iterator

import pytest

import mdstore
from bench import load, servers, world
from bench.calls import CALLS, MORE_CALLS, PREFIX
from bench.databases import SQLiteBed
from bench.http2 import Connection
from bench.servers import Serving
from mdstore.store import tables
from mdstore.wire import mlmd, service

EXECUTIONS = 60

pytestmark = pytest.mark.judge


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> SQLiteBed:
    place = SQLiteBed(tmp_path_factory.mktemp("bench"))
    world.build(place, "world", EXECUTIONS)
    return place


@pytest.fixture(scope="module")
def server(bed: SQLiteBed) -> Iterator[Serving]:
    with servers.store(bed, "world") as serving:
        yield serving


def status(connection: Connection, message: bytes) -> str:
    connection.send(message)
    while (found := connection.receive()) is None:
        pass
    return found


def test_every_call_has_an_answer_from_the_store_and_from_the_library(bed: SQLiteBed, server: Serving) -> None:
    with servers.peer(bed, "world", "fresh", processes=2) as library:
        for port in (server.port, library.port):
            for call in (*CALLS, *MORE_CALLS):
                connection = Connection(port, PREFIX + call.method)
                found = {status(connection, message) for message in call.requests(EXECUTIONS, 1, seed=1)[0][:3]}
                connection.close()
                assert found == {"OK"}, call.name


def test_statuses_are_told_apart_on_one_connection(server: Serving) -> None:
    connection = Connection(server.port, PREFIX + "PutExecutions")
    good = service.PutExecutionsRequest(executions=[mlmd.Execution(type_id=world.CONTAINER)]).SerializeToString()
    absent = service.PutExecutionsRequest(executions=[mlmd.Execution(type_id=12345)]).SerializeToString()
    wrong = service.PutExecutionsRequest(executions=[mlmd.Execution()]).SerializeToString()
    asked = [good, absent, good, wrong, absent, wrong, good]
    assert [status(connection, message) for message in asked] == [
        *("OK", "NOT_FOUND", "OK", "INVALID_ARGUMENT", "NOT_FOUND", "INVALID_ARGUMENT", "OK")
    ]
    connection.close()


def test_messages_larger_than_the_windows_arrive(server: Serving) -> None:
    execution = mlmd.Execution(type_id=world.CONTAINER)
    execution.custom_properties["long"].string_value = "x" * 3_000_000
    connection = Connection(server.port, PREFIX + "PutExecutions")
    assert status(connection, service.PutExecutionsRequest(executions=[execution]).SerializeToString()) == "OK"
    connection.close()
    connection = Connection(server.port, PREFIX + "GetExecutions")
    for _ in range(2):
        assert status(connection, service.GetExecutionsRequest().SerializeToString()) == "OK"
    connection.close()


def test_a_load_counts_what_the_store_has_done(bed: SQLiteBed) -> None:
    world.build(bed, "counted", EXECUTIONS)
    with servers.store(bed, "counted") as server:
        put = CALLS[0]
        job = load.Job(
            port=server.port,
            method=PREFIX + put.method,
            requests=put.requests(EXECUTIONS, 3, seed=1),
            seconds=30,
            most_calls=100,
        )
        loaded = load.run(job)
        with mdstore.connect(f"grpc://127.0.0.1:{server.port}") as store:
            response = store._call(PREFIX + "GetExecutions", service.GetExecutionsRequest(), None)
    assert not loaded.failures
    assert loaded.calls >= 100
    # Each client may have sent one more, which nobody waited for.
    assert loaded.all_calls <= len(response.executions) - EXECUTIONS <= loaded.all_calls + 3


def test_a_filled_store_is_one_that_the_library_could_have_made(bed: SQLiteBed) -> None:
    world.build(bed, "filled", EXECUTIONS)
    indexes = bed.execute("filled", "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    assert indexes == [(sum(len(t.indexes) for t in tables.MLMD_TABLES) - len(tables.MISSING_INDEXES),)]
    for left, column, right in (
        ("Event", "artifact_id", "Artifact"),
        ("Event", "execution_id", "Execution"),
        ("Association", "execution_id", "Execution"),
        ("Association", "context_id", "Context"),
        ("Attribution", "artifact_id", "Artifact"),
        ("Execution", "type_id", "Type"),
    ):
        assert bed.execute("filled", f"SELECT count(*) FROM {left} WHERE {column} NOT IN (SELECT id FROM {right})") == [
            (0,)
        ]
