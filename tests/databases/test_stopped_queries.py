"""Queries that are stopped, by us or by the server: who else waits for what, and what the caller is told."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mdstore.store.store import Store
from tests.databases.servers import PostgreSQLServer, Server
from tests.store.served import serving

pytestmark = pytest.mark.postgresql

GET_ARTIFACTS = "/ml_metadata.MetadataStoreService/GetArtifacts"


@contextmanager
def nobody_reads(url: str) -> Iterator[None]:
    """Inside the block whoever reads artifacts waits."""
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE artifact IN ACCESS EXCLUSIVE MODE")
        yield


def code_of(call: grpc.Future) -> grpc.StatusCode:
    error = call.exception(30)
    assert isinstance(error, grpc.RpcError)
    return error.code()


def test_stopping_a_query_on_a_server_that_does_not_answer_keeps_nobody_waiting() -> None:
    with (
        PostgreSQLServer(durable=False) as server,
        Store.open(server.url("hung")) as store,
        serving(store) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        nobody_reads(server.url("hung")),
    ):
        health = health_pb2_grpc.HealthStub(channel)
        read = channel.unary_unary(GET_ARTIFACTS).future(b"")
        while server.execute("hung", "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            time.sleep(0.01)
        # Who connects to stop the query is not answered.
        pid = server.pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            read.cancel()
            for _ in range(10):
                began = time.monotonic()
                health.Check(health_pb2.HealthCheckRequest(), timeout=20)
                assert time.monotonic() - began < 5
                time.sleep(0.1)
        finally:
            os.kill(pid, signal.SIGCONT)


def test_who_cannot_be_reached_any_more_need_not_be_stopped(own_server: Server) -> None:
    with Store.open(own_server.url("gone")) as store, store.database.connection() as connection:
        own_server.stop(signal.SIGKILL)
        store.database.dialect.interrupt(connection)


def test_a_query_that_the_database_stops_is_not_taken_for_the_servers_end(postgresql: Server) -> None:
    url = postgresql.url("hurried")
    Store.open(url).close()
    postgresql.execute("hurried", "ALTER DATABASE hurried SET statement_timeout = '500ms'")
    with (
        Store.open(url) as store,
        serving(store) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        nobody_reads(url),
    ):
        read = channel.unary_unary(GET_ARTIFACTS).future(b"", timeout=20)
        assert code_of(read) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "database" in read.details()
