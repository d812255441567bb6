"""What goes wrong in a database, provoked there, and the error that callers get for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from mdstore.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    MetadataError,
    ResourceExhausted,
    Unavailable,
)
from mdstore.store import tables
from mdstore.store.database import Database, open_database
from tests.databases.servers import Server


@pytest.fixture
def opened(server: Server, database: str) -> Iterator[Database]:
    """A new store."""
    with open_database(server.url(database)) as found:
        yield found


Provoke = Callable[[Any, Any, Server], None]
"""Given two connections of ours, in transactions, and their server."""


def run(connection: Any, *statements: str) -> None:
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)


def _taken(one: Any, _other: Any, _server: Server) -> None:
    run(one, *["INSERT INTO Artifact (type_id, name) VALUES (1, 'same')"] * 2)


def _external_id_taken(one: Any, _other: Any, _server: Server) -> None:
    run(one, *["INSERT INTO Artifact (type_id, external_id) VALUES (1, 'same')"] * 2)


def _kept_lock(one: Any, other: Any, _server: Server) -> None:
    run(other, "UPDATE mdstore_head SET seq = seq")
    run(one, _SHORT_WAITS[_kind(one)], "UPDATE mdstore_head SET seq = seq")


def _deadlock(one: Any, other: Any, _server: Server) -> None:
    run(other, "UPDATE Type SET description = 'x' WHERE id = 1")
    run(one, "UPDATE Type SET description = 'x' WHERE id = 2")
    errors: list[Exception] = []

    def wait() -> None:
        try:
            run(other, "UPDATE Type SET description = 'x' WHERE id = 2")
        except Exception as error:
            errors.append(error)
            other.rollback()

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.1)
    try:
        run(one, "UPDATE Type SET description = 'x' WHERE id = 1")
    finally:
        one.rollback()
        waiting.join(60)
    # The server chose the other one.
    raise errors[0]


def _ended(one: Any, other: Any, server: Server) -> None:
    _end(one, other)
    run(one, "SELECT 1")


def _end(one: Any, other: Any) -> None:
    if _kind(one) == "postgresql":
        run(other, f"SELECT pg_terminate_backend({one.info.backend_pid})")
    else:
        run(other, f"KILL {one.thread_id()}")


def _only_read(one: Any, _other: Any, _server: Server) -> None:
    run(one, "ROLLBACK", "START TRANSACTION READ ONLY", "UPDATE mdstore_head SET seq = seq")


def _stopped(one: Any, _other: Any, _server: Server) -> None:
    if _kind(one) == "postgresql":
        run(one, "SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(20)")
    else:
        run(one, "SET STATEMENT max_statement_time = 0.02 FOR SELECT count(*) FROM Type AS a, Type AS b, Type AS c, "
                 "Type AS d, Type AS e, Type AS f, Type AS g, Type AS h")  # fmt: skip


def _too_long(one: Any, _other: Any, _server: Server) -> None:
    run(one, f"INSERT INTO Artifact (type_id, name) VALUES (1, '{'x' * 256}')")


def _too_large(one: Any, _other: Any, _server: Server) -> None:
    run(one, "INSERT INTO Artifact (type_id, state) VALUES (1, 3000000000)")


def _kind(connection: Any) -> str:
    return "postgresql" if type(connection).__module__.startswith("psycopg") else "mysql"


_SHORT_WAITS = {
    "postgresql": "SET LOCAL lock_timeout = '50ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
}


@pytest.mark.parametrize(
    ("provoke", "kind", "says"),
    [
        (_taken, AlreadyExists, "Artifact: another one with the same type_id and name"),
        (_external_id_taken, AlreadyExists, "Artifact: another one with the same external_id"),
        (_kept_lock, Aborted, "busy.*try again"),
        (_deadlock, Aborted, "busy.*try again"),
        (_ended, Unavailable, "not there"),
        (_only_read, FailedPrecondition, "cannot be written"),
        (_stopped, Cancelled, "stopped"),
        (_too_long, InvalidArgument, "cannot hold a value"),
        (_too_large, InvalidArgument, "cannot hold a value"),
    ],
)
def test_what_a_database_refuses_has_its_own_error(
    server: Server, opened: Database, provoke: Provoke, kind: type[MetadataError], says: str
) -> None:
    one, other = opened.connect(), opened.connect()
    try:
        for connection in (one, other):
            run(connection, "BEGIN")
        with pytest.raises(opened.dialect.errors) as caught:
            provoke(one, other, server)
    finally:
        for connection in (one, other):
            with suppress(*opened.dialect.errors):
                connection.close()
    found = opened.dialect.error(caught.value, tables.ARTIFACT)
    assert type(found) is kind, found
    with pytest.raises(kind, match=says):
        raise found
    if kind is Unavailable:
        assert found.retry_after_ms


def test_a_server_that_gives_no_more_connections_is_unavailable_with_a_hint(server: Server, database: str) -> None:
    open_database(server.url(database)).close()
    if server.url("").startswith("postgresql"):
        server.execute(
            database,
            f"CREATE ROLE few_{database} LOGIN PASSWORD 'secret' CONNECTION LIMIT 3",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO few_{database}",
        )
    else:
        server.execute(
            "",
            f"CREATE USER few_{database}@'127.0.0.1' IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 3",
            f"GRANT ALL ON {database}.* TO few_{database}@'127.0.0.1'",
        )
    url = server.url(database).replace("//mdstore:", f"//few_{database}:")
    with open_database(url) as opened, ExitStack() as stack:
        for _ in range(2):
            stack.callback(opened.connect().close)
        # The third one is in the pool, or about to be.
        with suppress(Unavailable):
            stack.callback(opened.connect().close)
        with pytest.raises(Unavailable, match="not there") as caught:
            opened.connect()
    assert caught.value.retry_after_ms


def _constructed() -> Iterator[Any]:
    """Errors that are not to be had here without a disk that is full, or a server that falls over just then."""
    import psycopg
    import pymysql

    from mdstore.store.dialects.mysql import MySQL
    from mdstore.store.dialects.postgresql import PostgreSQL

    for number, kind in [
        (1020, Aborted), (1021, ResourceExhausted), (1040, Unavailable), (1053, Unavailable), (1114, ResourceExhausted),
        (1153, ResourceExhausted), (1203, Unavailable), (1290, FailedPrecondition), (1792, FailedPrecondition),
        (1836, FailedPrecondition), (2006, Unavailable), (2013, Unavailable), (1, Internal),
    ]:  # fmt: skip
        yield pytest.param(MySQL(), pymysql.err.OperationalError(number, "words"), kind, id=f"mysql {number}")
    for error, found in [
        (psycopg.errors.DiskFull, ResourceExhausted),
        (psycopg.errors.OutOfMemory, ResourceExhausted),
        (psycopg.errors.TooManyConnections, Unavailable),
        (psycopg.errors.AdminShutdown, Unavailable),
        (psycopg.errors.CrashShutdown, Unavailable),
        (psycopg.errors.CannotConnectNow, Unavailable),
        (psycopg.errors.ConnectionFailure, Unavailable),
        (psycopg.errors.ReadOnlySqlTransaction, FailedPrecondition),
        (psycopg.errors.InsufficientPrivilege, FailedPrecondition),
        (psycopg.errors.SerializationFailure, Aborted),
        (psycopg.errors.DeadlockDetected, Aborted),
        (psycopg.errors.LockNotAvailable, Aborted),
        (psycopg.errors.SyntaxError, Internal),
    ]:
        yield pytest.param(PostgreSQL(), error("words"), found, id=f"postgresql {error.__name__}")


@pytest.mark.parametrize(("dialect", "error", "kind"), list(_constructed()))
def test_each_kind_of_failure_has_its_own_error(dialect: Any, error: Exception, kind: type[MetadataError]) -> None:
    found = dialect.error(error)
    assert type(found) is kind
    assert "words" in str(found)
