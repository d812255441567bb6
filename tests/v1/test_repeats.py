"""A write that is sent again, by key or by a client that retries blindly, is answered as before and done once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.client.once import idempotency_key
from mdstore.errors import InvalidArgument
from mdstore.store import requests
from mdstore.store.requests import Call
from mdstore.store.store import Store
from mdstore.wire import ingestion, mlmd, nodes, service
from tests.databases.fixtures import ENGINES, EmptyStores
from tests.store.log import followed
from tests.store.served import serving
from tests.store.writing import Nodes, call, message, put_type

PUT_EXECUTION = "/ml_metadata.MetadataStoreService/PutExecution"
Put = Callable[..., service.PutExecutionResponse]


def executions(client: Client) -> list[int]:
    return [execution.id for execution in call(client, "GetExecutions").executions]


def request(n: int = 0, type_id: int = 10) -> service.PutExecutionRequest:
    """Two new nodes without names, which a second time would double."""
    return service.PutExecutionRequest(
        execution=mlmd.Execution(
            type_id=type_id, custom_properties={f"p{i}": mlmd.Value(int_value=n + i) for i in range(5)}
        ),
        artifact_event_pairs=[{"artifact": mlmd.Artifact(type_id=11), "event": {"type": mlmd.Event.OUTPUT}}],
    )


@pytest.fixture(params=["in process", "over gRPC", *ENGINES[1:]])
def way(request: pytest.FixtureRequest) -> str:
    """How the store is reached: on SQLite in both ways, on a server in this process."""
    return str(request.param)


@pytest.fixture
def store(way: str, url: str, empty_stores: EmptyStores) -> Iterator[Store]:
    if way in ("postgresql", "mariadb"):
        yield empty_stores.client(way)._store  # type: ignore[attr-defined]  # a client in this process
        return
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def reader(way: str, store: Store, url: str) -> Iterator[Client]:
    """Another client of the same database."""
    where = store.database.engine.url.render_as_string(hide_password=False) if way in ("postgresql", "mariadb") else url
    with mdstore.connect(where) as client:
        yield client


@pytest.fixture
def put(way: str, store: Store, reader: Client) -> Iterator[Put]:
    """Calls PutExecution with what the headers say."""
    assert put_type(reader, "execution") == 10
    assert put_type(reader, "artifact") == 11
    if way != "over gRPC":

        def local(of: service.PutExecutionRequest, **said: Any) -> service.PutExecutionResponse:
            response: service.PutExecutionResponse = store.call(PUT_EXECUTION, of, Call(**said))
            return response

        yield local
        return
    with serving(store) as port:
        yield over_grpc(port)


def over_grpc(port: int) -> Put:
    # The channel lives as long as the function.
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    method = channel.unary_unary(
        PUT_EXECUTION,
        request_serializer=service.PutExecutionRequest.SerializeToString,
        response_deserializer=service.PutExecutionResponse.FromString,
    )

    def remote(
        of: service.PutExecutionRequest, idempotency_key: str = "", attempt: int = 0
    ) -> service.PutExecutionResponse:
        said = [("x-retry-attempt", str(attempt))] if attempt else []
        said += [("idempotency-key", idempotency_key)] if idempotency_key else []
        try:
            response: service.PutExecutionResponse = method(of, metadata=said, wait_for_ready=True, timeout=30)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise InvalidArgument(error.details()) from error
            raise
        return response

    return remote


def test_the_same_key_and_request_is_written_once(put: Put, reader: Client) -> None:
    first = put(request(), idempotency_key="k")
    assert [put(request(), idempotency_key="k") for _ in range(3)] == [first] * 3
    assert executions(reader) == [first.execution_id]


def test_other_keys_are_other_writes(put: Put, reader: Client) -> None:
    made = {put(request(), idempotency_key=f"k{n}").execution_id for n in range(3)}
    assert len(made) == 3
    assert executions(reader) == sorted(made)


def test_a_key_of_another_request_is_refused_and_nothing_written(put: Put, reader: Client) -> None:
    first = put(request(), idempotency_key="k")
    with pytest.raises(InvalidArgument, match="idempotency key 'k' was used for another request"):
        put(request(1), idempotency_key="k")
    assert executions(reader) == [first.execution_id]


def test_a_write_that_failed_leaves_its_key_free(put: Put, reader: Client) -> None:
    with pytest.raises(InvalidArgument):
        put(service.PutExecutionRequest(), idempotency_key="k")
    made = put(request(), idempotency_key="k")
    assert executions(reader) == [made.execution_id]


def test_a_key_is_text_of_some_length(put: Put) -> None:
    with pytest.raises(InvalidArgument, match="256 characters"):
        put(request(), idempotency_key="k" * 256)


def test_repeats_at_the_same_time_are_one_write(put: Put, reader: Client) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: put(request(n % 4), idempotency_key=f"k{n % 4}").execution_id, range(64)))
    assert len(set(found)) == 4
    assert executions(reader) == sorted(set(found))


def test_a_retry_of_what_was_committed_doubles_nothing(put: Put, reader: Client) -> None:
    first = put(request())
    assert put(request(), attempt=1) == first
    assert put(request(), attempt=2) == first
    assert executions(reader) == [first.execution_id]


def test_a_retry_of_what_was_not_committed_is_done(put: Put, reader: Client) -> None:
    put(request())
    second = put(request(1), attempt=1)
    assert len(executions(reader)) == 2
    assert put(request(1), attempt=2) == second
    assert len(executions(reader)) == 2


def test_an_answer_is_kept_for_longer_than_kubeflows_client_tries() -> None:
    # 10 tries, the pause doubled from 1 s to 30 s at most, and a quarter more by chance.
    pauses_s = [min(2**number, 30) * 1.25 for number in range(9)]
    assert sum(pauses_s) * 1.2 < requests.RETRY_WINDOW_S


def test_equal_requests_that_are_no_retries_are_all_done(put: Put, reader: Client) -> None:
    made = {put(request()).execution_id for _ in range(3)}
    assert len(made) == 3
    assert executions(reader) == sorted(made)


def test_a_second_first_retry_is_somebody_elses(put: Put, reader: Client) -> None:
    first = put(request())
    assert put(request(), attempt=1) == first
    assert put(request(), attempt=1) != first
    assert len(executions(reader)) == 2


def test_the_order_of_a_map_on_the_wire_does_not_matter() -> None:
    names = [f"p{n}" for n in range(20)]
    one, two = mlmd.Execution(), mlmd.Execution()
    for name in names:
        one.custom_properties[name].int_value = 1
    for name in reversed(names):
        two.custom_properties[name].int_value = 1
    asked = [service.PutExecutionRequest(execution=execution) for execution in (one, two)]
    assert requests.digest_of(asked[0]) == requests.digest_of(asked[1])
    assert requests.digest_of(mlmd.Execution(id=1)) != requests.digest_of(mlmd.Artifact(id=1))


def test_an_old_answer_is_no_answer_and_is_dropped(
    put: Put, reader: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "RETRY_WINDOW_S", 0.0)
    put(request())
    assert remembered(store) == 1
    time.sleep(0.005)
    put(request(), attempt=1)
    assert len(executions(reader)) == 2
    time.sleep(0.005)
    store.reconcile()
    assert remembered(store) == 0


def remembered(store: Store) -> int:
    with store.reading() as tx:
        ((count,),) = tx.text_rows("SELECT count(*) FROM mdstore_request")
    return int(count)


def test_mdstores_own_requests_carry_their_key(client: Client) -> None:
    ours = Nodes(client)
    wanted = nodes.WriteRequest(artifacts=[ours.new("artifact")], idempotency_key="k")
    first = client.write(wanted)
    assert client.write(wanted) == first
    assert first.seq == followed(client)[-1].seq
    wanted.artifacts[0].uri = "other"
    with pytest.raises(InvalidArgument, match="'k'"):
        client.write(wanted)


def test_a_client_gives_any_write_a_key(client: Client) -> None:
    ours = Nodes(client)
    wanted = service.PutExecutionRequest(execution=ours.new("execution"))
    with idempotency_key("k"):
        first = client.put_execution(wanted)
        assert client.put_execution(wanted) == first
    with idempotency_key("k"):
        assert client.put_execution(wanted) == first
        with pytest.raises(InvalidArgument):
            client.put_execution(service.PutExecutionRequest(execution=ours.new("execution", name="n")))
    assert client.put_execution(wanted) != first


def test_a_repeated_answer_has_its_position(store: Store) -> None:
    rpc = store.find("/mdstore.v1.Ingestion/Ingest")
    wanted = ingestion.IngestRequest(contexts=[{"key": {"type": "T", "name": "c"}, "type": "T"}])
    first = store.submit(rpc, wanted, call=Call(idempotency_key="k")).result()
    assert first.seq > 0
    assert store.submit(rpc, wanted, call=Call(idempotency_key="k")).result() == first


@contextmanager
def server(url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mdstore", "serve", "--database", url, "--grpc-port", str(port)],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"MDSTORE_LOG_LEVEL": "error"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_server_that_is_killed_remembers_what_it_committed(url: str) -> None:
    with mdstore.connect(url) as client:
        put_type(client, "execution")
        put_type(client, "artifact")
    port = 18474
    with server(url, port) as process:
        retried = over_grpc(port)(request(1))
        keyed = over_grpc(port)(request(2), idempotency_key="k")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with server(url, port):
        assert over_grpc(port)(request(1), attempt=1) == retried
        assert over_grpc(port)(request(2), idempotency_key="k") == keyed
    with mdstore.connect(url) as client:
        assert executions(client) == sorted({retried.execution_id, keyed.execution_id})


def test_a_key_of_another_kind_of_request_is_refused_too(store: Store, reader: Client) -> None:
    type_id = put_type(reader, "context")
    records = [{"key": {"type": "T", "name": f"n{n}"}} for n in range(3)]
    made = store.call(
        "/mdstore.v1.Ingestion/Ingest", message(ingestion.IngestRequest, contexts=records), Call(idempotency_key="k")
    )
    named = [{"kind": nodes.CONTEXT, "id": made.context_ids[0]}]
    for path, other in (
        ("/mdstore.v1.Nodes/DeleteNodes", message(nodes.DeleteNodesRequest, nodes=named, idempotency_key="k")),
        (PUT_EXECUTION, request(type_id=type_id)),
    ):
        with pytest.raises(InvalidArgument, match="idempotency key 'k' was used for another request"):
            store.call(path, other, Call(idempotency_key="k"))
