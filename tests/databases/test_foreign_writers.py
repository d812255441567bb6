"""Somebody else, as the C++ library, writes to the same database at the same time: nobody loses anything in silence."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import Aborted, FailedPrecondition, MetadataError
from mdstore.store.dialects import mysql, postgresql
from mdstore.wire import mlmd, nodes, service
from tests.databases.servers import PostgreSQLServer, Server
from tests.databases.test_reliability import check_log
from tests.store.writing import get, put, put_type

LATER_MS = 2**42


@pytest.fixture
def client(server: Server, database: str) -> Iterator[Client]:
    """A client of a new store."""
    with mdstore.connect(server.url(database)) as found:
        yield found


@pytest.fixture
def other(server: Server, database: str, client: Client) -> Iterator[Any]:
    """A driver's connection of somebody else, in a transaction."""
    with connected(server, database) as found:
        yield found


@contextmanager
def connected(server: Server, database: str) -> Iterator[Any]:
    import psycopg
    import pymysql

    connection: Any
    if isinstance(server, PostgreSQLServer):
        connection = psycopg.connect(server.url(database))
    else:
        connection = pymysql.connect(
            host="127.0.0.1", port=server.port, user="mdstore", password="secret", database=database, autocommit=False
        )
    try:
        yield connection
    finally:
        connection.close()


def run(connection: Any, *statements: str) -> None:
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)


def waiting(server: Server) -> int:
    """Who waits for somebody's lock."""
    if isinstance(server, PostgreSQLServer):
        query, where = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", "postgres"
    else:
        query, where = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'", ""
    ((count,),) = server.execute(where, query)
    return int(count)


def once_it_waits(server: Server, do: Callable[[], Any], then: Callable[[], Any]) -> "Future[Any]":
    """Start `do`, which has to wait for a lock, and do `then` once it does."""
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(do)
        until = time.monotonic() + 60
        while not waiting(server):
            assert not started.done(), started.exception() or started.result()
            assert time.monotonic() < until
            time.sleep(0.01)
        then()
        started.exception(60)
    return started


def updated(artifact: mlmd.Artifact, **changes: Any) -> mlmd.Artifact:
    wanted = mlmd.Artifact()
    wanted.CopyFrom(artifact)
    for name, value in changes.items():
        wanted.custom_properties[name].string_value = value
    return wanted


@pytest.fixture
def artifact(client: Client) -> mlmd.Artifact:
    """An artifact of the store."""
    type_id = put_type(client, "artifact")
    found: mlmd.Artifact
    (found,) = get(client, "artifact", put(client, "artifact", {"type_id": type_id, "uri": "before"}))
    return found


def test_a_guarded_update_sees_what_somebody_else_commits_meanwhile(
    server: Server, client: Client, other: Any, artifact: mlmd.Artifact
) -> None:
    run(
        other, f"UPDATE Artifact SET uri = 'theirs', last_update_time_since_epoch = {LATER_MS} WHERE id = {artifact.id}"
    )
    request = service.PutArtifactsRequest(artifacts=[updated(artifact, note="ours")])
    request.options.abort_if_latest_updated_time_changed = True

    outcome = once_it_waits(server, lambda: client.put_artifacts(request), other.commit)

    assert isinstance(outcome.exception(), FailedPrecondition)
    (found,) = get(client, "artifact", [artifact.id])
    assert (found.uri, found.last_update_time_since_epoch) == ("theirs", LATER_MS)
    assert not found.custom_properties


def test_an_update_of_one_field_keeps_what_somebody_else_commits_meanwhile(
    server: Server, database: str, client: Client, other: Any, artifact: mlmd.Artifact
) -> None:
    no = "false" if isinstance(server, PostgreSQLServer) else "0"
    run(
        other,
        f"UPDATE Artifact SET uri = 'theirs', last_update_time_since_epoch = {LATER_MS} WHERE id = {artifact.id}",
        "INSERT INTO ArtifactProperty (artifact_id, name, is_custom_property, string_value) "
        f"VALUES ({artifact.id}, 'theirs', {no} = {no}, 'theirs')",
    )
    request = service.PutArtifactsRequest(artifacts=[updated(artifact, ours="ours")])
    request.update_mask.paths.append("custom_properties.ours")

    outcome = once_it_waits(server, lambda: client.put_artifacts(request), other.commit)

    assert outcome.result().artifact_ids == [artifact.id]
    (found,) = get(client, "artifact", [artifact.id])
    assert found.uri == "theirs"
    assert {name: value.string_value for name, value in found.custom_properties.items()} == {
        "ours": "ours",
        "theirs": "theirs",
    }
    check_log(server.url(database))


def test_who_loses_a_deadlock_is_tried_again_and_everybodys_update_is_there(
    server: Server, client: Client, other: Any
) -> None:
    type_id = put_type(client, "artifact")
    first, second = get(client, "artifact", put(client, "artifact", *[{"type_id": type_id}] * 2))
    run(other, f"UPDATE Artifact SET uri = 'theirs' WHERE id = {second.id}")
    request = service.PutArtifactsRequest(artifacts=[updated(first, note="ours"), updated(second, note="ours")])
    request.update_mask.paths.append("custom_properties.note")
    lost: list[Exception] = []

    def deadlock() -> None:
        # We hold the first one, and wait for the second.
        try:
            run(other, f"UPDATE Artifact SET uri = 'theirs' WHERE id = {first.id}")
        except Exception as error:
            lost.append(error)
            other.rollback()
        else:
            other.commit()

    outcome = once_it_waits(server, lambda: client.put_artifacts(request), deadlock)

    assert outcome.exception() is None
    found = get(client, "artifact", [first.id, second.id])
    assert [node.custom_properties["note"].string_value for node in found] == ["ours", "ours"]
    assert [node.uri for node in found] == (["", ""] if lost else ["theirs", "theirs"])


def test_a_lock_that_somebody_else_keeps_is_aborted_in_time_and_others_go_on(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up = mysql._set_up

    def impatient(connection: Any, record: object) -> None:
        set_up(connection, record)
        connection.cursor().execute("SET SESSION innodb_lock_wait_timeout = 1")

    monkeypatch.setattr(mysql, "_set_up", impatient)
    monkeypatch.setattr(postgresql, "_BEGIN_WRITE", postgresql._BEGIN_WRITE.replace("'10s'", "'1s'"))
    with mdstore.connect(server.url(database)) as client, connected(server, database) as other:
        type_id = put_type(client, "artifact")
        artifact, free = get(client, "artifact", put(client, "artifact", *[{"type_id": type_id}] * 2))
        run(other, f"UPDATE Artifact SET uri = 'theirs' WHERE id = {artifact.id}")
        errors: list[MetadataError] = []

        def update() -> None:
            with pytest.raises(Aborted) as caught:
                put(client, "artifact", updated(artifact, note="ours"))
            errors.append(caught.value)

        thread = threading.Thread(target=update)
        thread.start()
        assert put(client, "artifact", updated(free, note="ours")) == [free.id]
        thread.join(60)
        assert len(errors) == 1
        assert "busy" in str(errors[0])
        other.rollback()
        assert put(client, "artifact", updated(artifact, note="ours")) == [artifact.id]
    check_log(server.url(database))


@pytest.mark.parametrize("by", ["last_update_time", "seq"])
def test_a_write_that_expects_something_sees_what_somebody_else_commits_meanwhile(
    server: Server, client: Client, other: Any, artifact: mlmd.Artifact, by: str
) -> None:
    run(
        other, f"UPDATE Artifact SET uri = 'theirs', last_update_time_since_epoch = {LATER_MS} WHERE id = {artifact.id}"
    )
    (entry,) = client.history(nodes.HistoryRequest(kind=nodes.ARTIFACT, id=artifact.id)).entries
    expected = {"last_update_time": artifact.last_update_time_since_epoch, "seq": entry.seq}
    request = nodes.WriteRequest(
        artifacts=[updated(artifact, note="ours")],
        expected=[{"node": {"kind": nodes.ARTIFACT, "id": artifact.id}, by: expected[by]}],
    )

    outcome = once_it_waits(server, lambda: client.write(request), other.commit)

    assert isinstance(outcome.exception(), FailedPrecondition)
    (found,) = get(client, "artifact", [artifact.id])
    assert (found.uri, len(found.custom_properties)) == ("theirs", 0)
