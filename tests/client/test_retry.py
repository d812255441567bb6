"""What is called again, how often, and what never is: against a server that refuses the first calls."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

import mdstore
from mdstore import Retry
from mdstore.client.calls import REPEATABLE
from mdstore.client.once import idempotency_key
from mdstore.client.remote import SERVICE_FILES
from mdstore.client.retry import NEVER, Tries
from mdstore.errors import Aborted, InvalidArgument, MetadataError, ResourceExhausted, Unavailable
from mdstore.store.store import Store
from mdstore.wire import ingestion, methods, service
from tests.store.served import serving

QUICK = Retry(tries=4, first_pause_s=0.01, longest_pause_s=0.02)


class Refusing(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers the first calls of each method with a status, and the later ones with an empty response."""

    def __init__(self, code: grpc.StatusCode, times: int, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self.calls: Counter[str] = Counter()
        self.keys: list[str] = []
        self._code, self._times, self._metadata = code, times, metadata
        self._types = {
            path: (request, response) for file in SERVICE_FILES for path, request, response, _ in methods(file)
        }

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        request, response = self._types[details.method]
        self.keys += [value for name, value in details.invocation_metadata if name == "idempotency-key"]

        def answer(_request: Any, context: grpc.ServicerContext) -> Any:
            self.calls[details.method.rpartition("/")[2]] += 1
            if self.calls[details.method.rpartition("/")[2]] <= self._times:
                context.set_trailing_metadata(self._metadata)
                context.abort(self._code, "not now")
            return response()

        return grpc.unary_unary_rpc_method_handler(answer, request.FromString, response.SerializeToString)


@contextmanager
def refusing(code: grpc.StatusCode, times: int, *metadata: tuple[str, str]) -> Iterator[tuple[Refusing, str]]:
    handler = Refusing(code, times, metadata)
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler, f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None)


def call(url: str, retry: Retry, name: str, request: Any, *, color: str) -> None:
    if color == "waiting":
        with mdstore.connect(url, retry=retry) as client:
            getattr(client, name)(request, timeout=10)
        return

    async def run() -> None:
        async with mdstore.connect_async(url, retry=retry) as client:
            await getattr(client, name)(request, timeout=10)

    asyncio.run(run())


READ = ("get_artifacts", service.GetArtifactsRequest())
INGEST = ("ingest", ingestion.IngestRequest())
WRITE = ("put_artifacts", service.PutArtifactsRequest())
PASSING = [grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE]
COLORS = pytest.mark.parametrize("color", ["waiting", "asyncio"])


@COLORS
@pytest.mark.parametrize("code", PASSING)
@pytest.mark.parametrize(("name", "request_"), [READ, INGEST])
def test_reads_and_idempotent_writes_are_called_again(code: Any, name: str, request_: Any, color: str) -> None:
    with refusing(code, 2) as (server, url):
        call(url, QUICK, name, request_, color=color)

        assert list(server.calls.values()) == [3]


@COLORS
@pytest.mark.parametrize("code", PASSING)
def test_a_write_that_a_repetition_would_double_is_not_called_again(code: Any, color: str) -> None:
    with refusing(code, 2) as (server, url):
        with pytest.raises((Aborted, Unavailable), match="not now"):
            call(url, QUICK, *WRITE, color=color)

        assert list(server.calls.values()) == [1]


@COLORS
def test_it_is_called_again_where_the_caller_says_so(color: str) -> None:
    with refusing(grpc.StatusCode.ABORTED, 2) as (server, url):
        call(url, Retry(tries=4, first_pause_s=0.01, writes=True), *WRITE, color=color)

        assert list(server.calls.values()) == [3]


@COLORS
def test_a_write_with_an_idempotency_key_is_called_again_with_the_same_key(color: str) -> None:
    with refusing(grpc.StatusCode.UNAVAILABLE, 2) as (server, url):
        with idempotency_key("k-1"):
            call(url, QUICK, *WRITE, color=color)

        assert list(server.calls.values()) == [3]
        assert server.keys == ["k-1"] * 3


@COLORS
@pytest.mark.parametrize(("retry", "calls"), [(QUICK, 4), (NEVER, 1)])
def test_the_number_of_tries_is_bounded_and_the_last_error_is_raised(retry: Retry, calls: int, color: str) -> None:
    with refusing(grpc.StatusCode.UNAVAILABLE, 100) as (server, url):
        with pytest.raises(Unavailable, match="not now"):
            call(url, retry, *READ, color=color)

        assert list(server.calls.values()) == [calls]


@COLORS
def test_other_errors_are_raised_at_once(color: str) -> None:
    with refusing(grpc.StatusCode.INVALID_ARGUMENT, 100) as (server, url):
        with pytest.raises(InvalidArgument):
            call(url, QUICK, *READ, color=color)

        assert list(server.calls.values()) == [1]


def test_a_full_queue_is_tried_again_when_the_server_says_when() -> None:
    with refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, 1, ("grpc-retry-pushback-ms", "200")) as (server, url):
        began = time.monotonic()
        call(url, Retry(), *READ, color="waiting")

        assert time.monotonic() - began >= 0.2
        assert list(server.calls.values()) == [2]
    with refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, 1) as (_, url), pytest.raises(ResourceExhausted):
        call(url, Retry(), *READ, color="waiting")


def test_no_pause_reaches_beyond_the_deadline() -> None:
    tries = Tries(Retry(tries=100, first_pause_s=10, longest_pause_s=10), "/mdstore.v1.Ingestion/Ingest", 1.0)
    error = Unavailable("away")

    with pytest.raises(MetadataError) as raised:
        tries.pause_after(error)
    assert raised.value is error


def test_pauses_double_up_to_a_limit_and_are_never_two_clients_the_same() -> None:
    retry = Retry(tries=8, first_pause_s=0.1, longest_pause_s=1.0)
    many = [list(retry.pauses()) for _ in range(50)]

    for limit, pauses in zip([0.1, 0.2, 0.4, 0.8, 1, 1, 1], zip(*many, strict=True), strict=True):
        assert limit / 2 <= min(pauses) < max(pauses) <= limit
    assert all(len(pauses) == 7 for pauses in many)


def test_of_mlmds_calls_only_reads_may_be_called_again() -> None:
    paths = {path for file in SERVICE_FILES for path, *_ in methods(file)}

    assert paths >= REPEATABLE
    assert "/mdstore.v1.Ingestion/Ingest" in REPEATABLE
    for path in paths:
        service_name, _, name = path[1:].partition("/")
        if service_name == "ml_metadata.MetadataStoreService":
            assert (path in REPEATABLE) == name.startswith("Get"), path


@COLORS
def test_a_server_that_comes_back_within_the_tries_is_not_noticed(color: str, database: str) -> None:
    with Store.open(database) as store:
        with serving(store) as port:
            pass
        # The port is free again now; nobody else takes it in this second.
        done: list[str] = []
        patient = Retry(tries=40, first_pause_s=0.05, longest_pause_s=0.1)
        reader = threading.Thread(
            target=lambda: done.append(str(call(f"grpc://127.0.0.1:{port}", patient, *READ, color=color)))
        )
        reader.start()
        time.sleep(0.3)
        server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Refusing(grpc.StatusCode.ABORTED, 0)])
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        server.start()
        reader.join(10)
        server.stop(None)

    assert done == ["None"]
