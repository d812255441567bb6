"""Waiting or asyncio, over gRPC or in this process: the same methods, the same results, the same errors."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.client import calls
from mdstore.client.client import AsyncClient
from mdstore.client.once import idempotency_key
from mdstore.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MetadataError,
    Unavailable,
)
from mdstore.store.store import Store
from mdstore.wire import ingestion, mlmd, service
from tests.client.ways import WAYS, Way, connected
from tests.store.served import serving


def put_type(way: Way, name: str = "T") -> int:
    request = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=name))
    type_id: int = way.call("put_artifact_type", request).type_id
    return type_id


def test_every_method_is_there_for_both_with_the_same_arguments() -> None:
    plain = {name: value for name, value in vars(calls.Calls).items() if inspect.isfunction(value)}
    asynchronous = {name: value for name, value in vars(calls.AsyncCalls).items() if inspect.isfunction(value)}

    assert plain.keys() == asynchronous.keys()
    assert len(plain) > 55
    for name, method in plain.items():
        mine, other = inspect.signature(method), inspect.signature(asynchronous[name])
        assert mine.parameters == other.parameters
        assert name in {"follow", "snapshot", "_stream"} or mine.return_annotation == other.return_annotation


def test_what_is_put_is_got(way: Way) -> None:
    type_id = put_type(way)
    artifact = mlmd.Artifact(type_id=type_id, uri="s3://b/é", name="a")
    (artifact_id,) = way.call("put_artifacts", service.PutArtifactsRequest(artifacts=[artifact])).artifact_ids

    (found,) = way.call("get_artifacts_by_id", service.GetArtifactsByIDRequest(artifact_ids=[artifact_id])).artifacts

    assert (found.uri, found.name, found.type_id) == ("s3://b/é", "a", type_id)


HOSTILE: list[tuple[str, Any]] = [
    ("get_artifact_type", service.GetArtifactTypeRequest(type_name="none")),
    ("get_artifact_type", service.GetArtifactTypeRequest()),
    ("put_artifact_type", service.PutArtifactTypeRequest()),
    ("put_artifact_type", service.PutArtifactTypeRequest(artifact_type={"name": "T", "properties": {"p": 1}})),
    ("put_artifact_type", service.PutArtifactTypeRequest(artifact_type={"name": "T", "properties": {"p": 3}})),
    ("put_artifacts", service.PutArtifactsRequest(artifacts=[{"type_id": 999}])),
    ("put_events", service.PutEventsRequest(events=[{"execution_id": 3}])),
    ("put_execution_type", service.PutExecutionTypeRequest(execution_type={"name": "E"})),
    ("put_executions", service.PutExecutionsRequest(executions=[{"type_id": 12, "name": "same"}])),
    ("put_executions", service.PutExecutionsRequest(executions=[{"type_id": 12, "name": "same"}])),
    ("put_context_type", service.PutContextTypeRequest(context_type={"name": "C"})),
    ("put_contexts", service.PutContextsRequest(contexts=[{"type_id": 13}])),
    ("put_contexts", service.PutContextsRequest(contexts=[{"type_id": 13, "name": "a\0b"}])),
    ("get_executions", service.GetExecutionsRequest(options={"next_page_token": "none"})),
    ("get_executions", service.GetExecutionsRequest(options={"filter_query": "not ( a filter"})),
    ("get_executions", service.GetExecutionsRequest(options={"max_result_size": 1})),
    ("ingest", ingestion.IngestRequest(contexts=[{"type": "Run", "key": {"type": "Run", "name": "r"}}])),
    ("ingest", ingestion.IngestRequest(contexts=[{"key": {"name": "r"}}])),
    ("ingest", ingestion.IngestRequest(uses=[{"execution": {"external_id": "e"}, "uri": "u"}])),
    ("list_documents", ingestion.ListDocumentsRequest(collection="c")),
]


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gave: its error, or its response but for times."""
    try:
        response = call()
    except MetadataError as error:
        return type(error).__name__, str(error)
    for message in getattr(response, "executions", ()):
        message.ClearField("create_time_since_epoch")
        message.ClearField("last_update_time_since_epoch")
    if "next_page_token" in type(response).DESCRIPTOR.fields_by_name:
        response.next_page_token = "some" if response.next_page_token else ""
    return response


def test_all_ways_give_the_same_answers_and_the_same_errors(tmp_path: Path) -> None:
    answers: dict[str, list[Any]] = {}
    for number, way in enumerate(WAYS):
        with Store.open(f"sqlite:///{tmp_path / str(number)}.db") as store, serving(store) as port:
            database = f"sqlite:///{tmp_path / str(number)}-own.db"
            with connected(way, database, port) as client:
                answers[way] = [outcome(lambda n=name, r=request: client.call(n, r)) for name, request in HOSTILE]

    reference = answers[WAYS[0]]
    assert sum(isinstance(answer, tuple) for answer in reference) >= 10
    assert sum(not isinstance(answer, tuple) for answer in reference) >= 6
    for way in WAYS[1:]:
        assert answers[way] == reference, way


def test_a_stream_tells_the_head_and_then_every_commit(way: Way) -> None:
    put_type(way, "A")
    put_type(way, "B")

    messages = way.stream("follow", once=True)

    seqs = [commit.seq for message in messages for commit in message.commits]
    assert seqs == list(range(1, messages[-1].head_seq + 1))
    assert messages[0].store_id
    assert way.stream("follow", from_seq=seqs[-1] + 1, once=True)[0].head_seq == seqs[-1]
    assert way.stream("snapshot")[0].seq == seqs[-1]


def test_following_beyond_the_head_is_an_invalid_argument(way: Way) -> None:
    with pytest.raises(InvalidArgument, match="Begin at 1"):
        way.stream("follow", from_seq=1000)


def test_a_stream_that_waits_sees_the_next_commit(way: Way) -> None:
    head = way.stream("follow", once=True)[-1].head_seq
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.extend(way.stream("follow", 2, from_seq=head + 1)))
    reader.start()
    time.sleep(0.3)

    put_type(way, "Later")
    reader.join(10)

    assert [commit.seq for message in found for commit in message.commits] == [head + 1]


def test_a_closed_client_refuses_calls_and_closes_again(way: Way) -> None:
    put_type(way)
    way.close()
    way.close()

    with pytest.raises(FailedPrecondition, match="closed"):
        put_type(way)


def fill(way: Way, artifacts: int) -> None:
    """So many that reading all of them takes a while."""
    type_id = put_type(way)
    for _ in range(0, artifacts, 2000):
        request = service.PutArtifactsRequest(
            artifacts=[mlmd.Artifact(type_id=type_id, uri="u" * 100) for _ in range(2000)]
        )
        way.call("put_artifacts", request)


def test_a_read_that_takes_too_long_is_a_deadline_exceeded(way: Way) -> None:
    fill(way, 20_000)
    began = time.monotonic()

    with pytest.raises(DeadlineExceeded):
        way.call("get_artifacts", service.GetArtifactsRequest(), timeout=0.01)

    assert time.monotonic() - began < 1
    assert way.call("get_artifacts_by_id", service.GetArtifactsByIDRequest(artifact_ids=[1]), timeout=5).artifacts


@pytest.mark.parametrize("place", ["in process", "over gRPC"])
def test_cancelling_an_await_cancels_its_call(place: str, database: str) -> None:
    async def story(client: AsyncClient) -> None:
        reading = asyncio.ensure_future(client.get_artifacts(service.GetArtifactsRequest()))
        following = asyncio.ensure_future(read(client))
        await asyncio.sleep(0.005)
        assert not reading.done()
        began = time.monotonic()
        for task in (reading, following):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert time.monotonic() - began < 0.5
        # Nothing is left that would keep others waiting.
        found = await client.get_artifacts_by_id(service.GetArtifactsByIDRequest(artifact_ids=[1]), timeout=5)
        assert len(found.artifacts) == 1

    async def read(client: AsyncClient) -> None:
        async for _ in client.follow():
            pass

    async def run(url: str) -> None:
        async with mdstore.connect_async(url) as client:
            await story(client)

    with connected(WAYS[0], database, 0) as way:
        fill(way, 20_000)
    if place == "in process":
        asyncio.run(run(database))
        return
    with Store.open(database) as store, serving(store) as port:
        asyncio.run(run(f"grpc://127.0.0.1:{port}"))


@pytest.mark.parametrize("url", ["", "nonsense", "grpc://", "grpc://host", "sqlite:////nowhere/at/all.db", "mars://x"])
def test_an_address_that_is_none_is_the_same_error_for_both(url: str) -> None:
    with pytest.raises((InvalidArgument, Unavailable)) as waiting:
        mdstore.connect(url)

    async def connect() -> None:
        async with mdstore.connect_async(url):
            pass

    with pytest.raises(type(waiting.value)) as asynchronous:
        asyncio.run(connect())
    assert str(asynchronous.value) == str(waiting.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost:8080", "metadata.db"])
def test_an_address_without_a_scheme_is_told_of_all_that_there_are(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        mdstore.connect(url)
    for form in ("grpc://HOST:PORT", "sqlite:///FILE", "postgresql://", "mysql://"):
        assert form in str(caught.value)


def test_a_closed_client_begins_no_stream(way: Way) -> None:
    way.close()

    for name in ("follow", "snapshot"):
        with pytest.raises(FailedPrecondition, match="closed"):
            way.stream(name)


@pytest.mark.parametrize("key", ["schlüssel", "a\0b", "a\nb", "\N{SNOWMAN}", " ", "k" * 256, "k" * 20_000])
def test_what_cannot_be_a_key_is_the_same_error_everywhere(way: Way, key: str) -> None:
    with pytest.raises(InvalidArgument, match="idempotency key"), idempotency_key(key):
        put_type(way)


@pytest.mark.parametrize("key", ["a b", "k" * 255, "!~%20"])
def test_every_other_key_is_taken_everywhere(way: Way, key: str) -> None:
    for _ in range(2):
        with idempotency_key(key):
            put_type(way)
    with pytest.raises(InvalidArgument, match="another request"), idempotency_key(key):
        put_type(way, "Other")
