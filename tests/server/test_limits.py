"""Limits, deadlines and cancellations: one client does not starve the rest, and nobody works for who is gone."""

import json
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

import mdstore
from mdstore.errors import ResourceExhausted
from mdstore.server.calls import Limits
from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import changes, mlmd, service
from tests.server.served import Server, running
from tests.server.web import SERVICE, call, framed
from tests.store import writing
from tests.store.log import verified

FOLLOW = "/mdstore.v1.ChangeFeed/Follow"


def put_type(name: str) -> bytes:
    return service.PutContextTypeRequest(context_type=mlmd.ContextType(name=name)).SerializeToString()


def code_of(future: Any) -> grpc.StatusCode:
    code = future.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def type_names(channel: grpc.Channel) -> set[str]:
    answer = channel.unary_unary(f"{SERVICE}GetContextTypes")(b"", timeout=10)
    return {found.name for found in service.GetContextTypesResponse.FromString(answer).context_types}


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Another process writes for so long: nothing of ours gets to the disk inside the block."""
    with locked_file(str(store.database.engine.url.database)):
        yield


@contextmanager
def locked_file(database: str | Path) -> Iterator[None]:
    """The same for the file of a store."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def serving(store: Store, **limits: int) -> Iterator[tuple[Server, grpc.Channel]]:
    with (
        running(store, Plan(http_port=0, limits=Limits(**limits))) as server,
        grpc.insecure_channel(server.grpc, options=[("grpc.max_receive_message_length", -1)]) as channel,
    ):
        yield server, channel


def hint_of(future: Any) -> int:
    """When to try again, in ms, which both forms of the hint say."""
    metadata = dict(future.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert status.code == future.code().value[0]
    assert status.message == future.details()
    info = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    ms: int = info.retry_delay.ToMilliseconds()
    assert metadata["grpc-retry-pushback-ms"] == str(ms)
    return ms


def test_a_full_queue_refuses_writes_with_a_hint_and_goes_on_with_reads(store: Store) -> None:
    with serving(store, queued_writes=2) as (server, channel):
        put = channel.unary_unary(f"{SERVICE}PutContextType")
        with locked(store):
            accepted = [put.future(put_type(f"t{number}")) for number in range(2)]
            time.sleep(0.2)
            refused = put.future(put_type("refused"))
            assert code_of(refused) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "2 writes are waiting" in refused.details()
            assert 0 < hint_of(refused) <= 1000
            over_web = call(
                server.http, "PutContextType", service.PutContextTypeRequest(context_type=mlmd.ContextType(name="web"))
            )
            assert over_web.status == 8
            assert over_web.trailers["grpc-retry-pushback-ms"] == str(hint_of(refused))
            assert type_names(channel) == set()
        assert [code_of(future) for future in accepted] == [grpc.StatusCode.OK] * 2
        assert type_names(channel) == {"t0", "t1"}


def test_grpcs_own_retries_obey_the_hint(store: Store) -> None:
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.001s",
        "maxBackoff": "0.001s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = {"methodConfig": [{"name": [{"service": "ml_metadata.MetadataStoreService"}], "retryPolicy": policy}]}
    options = [("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", 1)]
    with (
        serving(store, queued_writes=1) as (server, channel),
        grpc.insecure_channel(server.grpc, options=options) as retrying,
    ):
        with locked(store):
            first = channel.unary_unary(f"{SERVICE}PutContextType").future(put_type("first"))
            time.sleep(0.2)
            second = retrying.unary_unary(f"{SERVICE}PutContextType").future(put_type("second"))
            # Five attempts with a backoff of a millisecond would be over by now: it waits as the server says.
            time.sleep(0.3)
            assert not second.done()
        assert code_of(first) is code_of(second) is grpc.StatusCode.OK


def test_a_database_that_stays_busy_is_aborted(store: Store) -> None:
    with serving(store) as (_, channel), locked(store):
        future = channel.unary_unary(f"{SERVICE}PutContextType").future(put_type("late"))
        assert code_of(future) is grpc.StatusCode.ABORTED
        assert "busy" in future.details()


def test_a_write_whose_deadline_passes_before_its_turn_is_not_done(store: Store) -> None:
    with serving(store) as (_, channel):
        put = channel.unary_unary(f"{SERVICE}PutContextType")
        with locked(store):
            first = put.future(put_type("first"))
            time.sleep(0.2)
            late = put.future(put_type("late"), timeout=0.3)
            given_up = put.future(put_type("given up"))
            time.sleep(0.1)
            given_up.cancel()
            assert code_of(late) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert code_of(first) is grpc.StatusCode.OK
        put(put_type("last"))
        assert type_names(channel) == {"first", "last"}


def test_a_write_that_has_begun_is_finished(store: Store) -> None:
    with serving(store) as (_, channel):
        with locked(store):
            begun = channel.unary_unary(f"{SERVICE}PutContextType").future(put_type("begun"), timeout=0.3)
            assert code_of(begun) is grpc.StatusCode.DEADLINE_EXCEEDED
        deadline = time.monotonic() + 5
        while type_names(channel) != {"begun"}:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_writes_that_are_given_up_at_any_moment_are_done_wholly_or_not_at_all(store: Store) -> None:
    chance = random.Random(7)
    with serving(store) as (server, channel), mdstore.connect(f"grpc://{server.grpc}") as client:
        types = {kind: writing.put_type(client, kind) for kind in writing.KINDS}
        put = channel.unary_unary(f"{SERVICE}PutExecution")
        futures = {}
        for number in range(600):
            name = f"n{number}"
            pairs = [
                {
                    "artifact": writing.node("artifact", type_id=types["artifact"], name=f"{name}/{n}"),
                    "event": {"type": mlmd.Event.OUTPUT},
                }
                for n in range(3)
            ]
            request = writing.message(
                service.PutExecutionRequest,
                execution=writing.node("execution", type_id=types["execution"], name=name),
                artifact_event_pairs=pairs,
                contexts=[writing.node("context", type_id=types["context"], name="shared")],
                options={"reuse_context_if_already_exist": True},
            )
            timeout = chance.choice((None, 0.001, 0.005, 0.02, 0.1))
            futures[name] = put.future(request.SerializeToString(), timeout=timeout)
            if chance.random() < 0.3:
                time.sleep(chance.random() * 0.004)
                futures[chance.choice(list(futures))].cancel()
        codes = {name: code_of(future) for name, future in futures.items()}
        assert set(codes.values()) <= {
            grpc.StatusCode.OK,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }
        # What comes later is not hurt, and comes after all that was begun.
        writing.put(client, "execution", writing.node("execution", type_id=types["execution"], name="last"))
        executions = {found.name: found.id for found in writing.get_all(client, "execution").executions}
        artifacts = {found.name: found.id for found in writing.get_all(client, "artifact").artifacts}
        there = executions.keys() - {"last"}
        assert {name for name, code in codes.items() if code is grpc.StatusCode.OK} <= there
        assert there < codes.keys(), "nothing was given up in time"
        assert artifacts.keys() == {f"{name}/{n}" for name in there for n in range(3)}
        for name in there:
            events = writing.events_of(client, "execution", executions[name])
            assert sorted(event.artifact_id for event in events) == sorted(artifacts[f"{name}/{n}"] for n in range(3))
    verified(str(store.database.engine.url))


def test_reads_that_nobody_waits_for_leave_their_threads_to_others(large: Store) -> None:
    with serving(large) as (_, channel):
        everything = channel.unary_unary(f"{SERVICE}GetArtifacts")
        began = time.monotonic()
        everything(b"")
        alone = time.monotonic() - began
        assert alone > 0.5, "too fast to be interrupted"

        # Each would keep one of few threads; one after the other they would take 16 times as long as one alone.
        futures = [everything.future(b"", timeout=0.1) for _ in range(8)]
        futures += [everything.future(b"") for _ in range(8)]
        time.sleep(0.2)
        for future in futures[8:]:
            future.cancel()
        began = time.monotonic()
        type_names(channel)
        waited = time.monotonic() - began
        assert {code_of(future) for future in futures[:8]} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert {code_of(future) for future in futures[8:]} == {grpc.StatusCode.CANCELLED}
        assert waited < 2 * alone


def test_a_point_read_that_is_large_lets_others_go_first(large: Store) -> None:
    with serving(large) as (_, channel):
        read = channel.unary_unary(f"{SERVICE}GetEventsByArtifactIDs")
        request = service.GetEventsByArtifactIDsRequest(artifact_ids=[1]).SerializeToString()
        began = time.monotonic()
        answer = read(request)
        alone = time.monotonic() - began
        assert len(service.GetEventsByArtifactIDsResponse.FromString(answer).events) == 200_000

        slow = read.future(request)
        get = channel.unary_unary(f"{SERVICE}GetContextTypesByID")
        quick = 0
        while not slow.done():
            began = time.monotonic()
            get(b"")
            quick += time.monotonic() - began < alone / 2
        assert slow.result() == answer
        assert quick >= 5


def test_a_write_of_too_many_items_is_refused(store: Store) -> None:
    with serving(store, write_items=10) as (server, _), mdstore.connect(f"grpc://{server.grpc}") as client:
        put = client.put_artifact_type(service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="t")))
        artifacts = [mlmd.Artifact(type_id=put.type_id, uri=f"u{number}") for number in range(11)]
        assert len(client.put_artifacts(service.PutArtifactsRequest(artifacts=artifacts[:10])).artifact_ids) == 10
        with pytest.raises(ResourceExhausted, match="11 nodes and links, more than the 10"):
            client.put_artifacts(service.PutArtifactsRequest(artifacts=artifacts))
        pairs = [service.PutExecutionRequest.ArtifactAndEvent(artifact=artifact) for artifact in artifacts]
        with pytest.raises(ResourceExhausted, match="more than the 10"):
            client.put_execution(service.PutExecutionRequest(artifact_event_pairs=pairs))


def test_an_answer_that_is_too_large_says_what_to_do(store: Store) -> None:
    with serving(store, message_bytes=3000) as (server, _), mdstore.connect(f"grpc://{server.grpc}") as client:
        for number in range(4):
            name = f"{number}{'n' * 1000}"
            client.put_context_type(service.PutContextTypeRequest(context_type=mlmd.ContextType(name=name)))
        with pytest.raises(ResourceExhausted, match="in pages"):
            client.get_context_types(service.GetContextTypesRequest())
        with pytest.raises(ResourceExhausted):
            client.get_context_type(service.GetContextTypeRequest(type_name="n" * 3001))


def test_more_calls_than_allowed_are_refused(store: Store) -> None:
    with serving(store, calls=1) as (_, channel):
        put = channel.unary_unary(f"{SERVICE}PutContextType")
        with locked(store):
            first = put.future(put_type("first"))
            time.sleep(0.2)
            second = channel.unary_unary(f"{SERVICE}GetContextTypes").future(b"")
            assert code_of(second) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert hint_of(second) > 0
        assert code_of(first) is grpc.StatusCode.OK
        assert type_names(channel) == {"first"}


def from_elsewhere(server: Server, name: str) -> float:
    """The seconds of a call from another address of this machine."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), timeout=60) as client:
        began = time.monotonic()
        headers = {"content-type": "application/grpc-web"}
        response = client.post(f"{server.http}{SERVICE}{name}", content=framed(b""), headers=headers)
        assert response.content.endswith(b"grpc-status: 0\r\n")
        return time.monotonic() - began


def test_one_address_may_have_its_share_of_the_calls(store: Store) -> None:
    with serving(store, client_calls=1) as (server, channel):
        with locked(store):
            first = channel.unary_unary(f"{SERVICE}PutContextType").future(put_type("first"))
            time.sleep(0.2)
            second = channel.unary_unary(f"{SERVICE}GetContextTypes").future(b"")
            assert code_of(second) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert hint_of(second) > 0
            assert call(server.http, "GetContextTypes", service.GetContextTypesRequest()).status == 8
            from_elsewhere(server, "GetContextTypes")
        assert code_of(first) is grpc.StatusCode.OK
        assert type_names(channel) == {"first"}


def test_who_asks_for_much_does_not_keep_others_waiting(large: Store) -> None:
    with serving(large) as (server, channel):
        everything = channel.unary_unary(f"{SERVICE}GetArtifacts")
        began = time.monotonic()
        everything(b"")
        alone = time.monotonic() - began
        futures = [everything.future(b"") for _ in range(40)]
        time.sleep(0.2)
        # Few are being read, and the next turn is ours: behind all of them it would be 40 times as long.
        assert from_elsewhere(server, "GetArtifactTypes") < 10 * alone
        for future in futures:
            future.cancel()


def test_followers_do_not_wait_behind_long_reads(large: Store) -> None:
    with serving(large) as (_, channel):
        everything = channel.unary_unary(f"{SERVICE}GetArtifacts")
        began = time.monotonic()
        everything(b"")
        alone = time.monotonic() - began
        futures = [everything.future(b"") for _ in range(40)]
        time.sleep(0.2)
        began = time.monotonic()
        stream = channel.unary_stream(FOLLOW)(b"")
        next(stream)
        assert time.monotonic() - began < 5 * alone
        stream.cancel()
        for future in futures:
            future.cancel()


def test_more_streams_than_allowed_are_refused(store: Store) -> None:
    with serving(store, streams=1) as (_, channel):
        follow = channel.unary_stream(FOLLOW)
        first = follow(changes.FollowRequest().SerializeToString())
        next(first)
        second = follow(changes.FollowRequest().SerializeToString())
        assert second.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()
        deadline = time.monotonic() + 5
        while True:
            third = follow(changes.FollowRequest(once=True).SerializeToString())
            try:
                assert list(third)
                break
            except grpc.RpcError:
                assert third.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert time.monotonic() < deadline, "the end of the first stream is not noticed"


def test_many_follow_without_delay_and_none_misses_a_commit(store: Store) -> None:
    with serving(store) as (_, channel):
        follow = channel.unary_stream(FOLLOW)
        head = changes.FollowResponse.FromString(next(follow(b""))).head_seq
        request = changes.FollowRequest(from_seq=head + 1).SerializeToString()
        streams = [follow(request) for _ in range(20)]
        for stream in streams:
            assert changes.FollowResponse.FromString(next(stream)).commits == []
        put = channel.unary_unary(f"{SERVICE}PutContextType")
        for number in range(10):
            put(put_type(f"t{number}"))
        for stream in streams:
            seqs: list[int] = []
            while len(seqs) < 10:
                seqs += [commit.seq for commit in changes.FollowResponse.FromString(next(stream)).commits]
            assert seqs == list(range(head + 1, head + 11))
            stream.cancel()


def test_a_commit_of_another_process_reaches_followers(store: Store) -> None:
    with (
        serving(store) as (_, channel),
        mdstore.connect(f"sqlite:///{store.database.engine.url.database}") as other,
    ):
        follow = channel.unary_stream(FOLLOW)
        head = changes.FollowResponse.FromString(next(follow(b""))).head_seq
        stream = follow(changes.FollowRequest(from_seq=head + 1).SerializeToString(), timeout=10)
        next(stream)
        other.put_context_type(service.PutContextTypeRequest(context_type=mlmd.ContextType(name="elsewhere")))
        assert changes.FollowResponse.FromString(next(stream)).commits[0].changes.context_types[0].name == "elsewhere"
        stream.cancel()


@pytest.mark.parametrize("attempt", ["9" * 5000, "-1", "1.5", "", "x"])
def test_a_retry_attempt_that_is_no_number_is_none(server: Server, channel: grpc.Channel, attempt: str) -> None:
    metadata = (("x-retry-attempt", attempt),)
    answer = channel.unary_unary(f"{SERVICE}PutContextType")(put_type("t"), metadata=metadata)
    assert service.PutContextTypeResponse.FromString(answer).type_id > 0


def test_a_long_error_still_reaches_the_client(server: Server, channel: grpc.Channel) -> None:
    request = service.GetContextTypeRequest(type_name="ä" * 100_000).SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}GetContextType")(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details().endswith("ä...")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_writes_that_were_given_up_keep_no_memory(store: Store) -> None:
    request = service.PutArtifactsRequest(artifacts=[mlmd.Artifact(type_id=1, uri="u" * 900_000)])
    body = request.SerializeToString()
    with serving(store) as (_, channel), locked(store):
        put = channel.unary_unary(f"{SERVICE}PutArtifacts")
        busy = channel.unary_unary(f"{SERVICE}PutContextType").future(put_type("busy"))
        time.sleep(0.2)

        def give_up() -> None:
            futures = [put.future(body, timeout=0.4) for _ in range(150)]
            assert {code_of(future) for future in futures} == {grpc.StatusCode.DEADLINE_EXCEEDED}

        give_up()
        before = resident_bytes()
        for _ in range(3):
            give_up()
        assert not busy.done(), "the lock was not held for so long"
        # Those who wait take at most what is allowed; that was taken the first time.
        assert resident_bytes() - before < 200 * 1024 * 1024
