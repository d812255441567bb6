"""Statements that PostgreSQL gets in one message: their results, and how the connection is when one of them fails."""

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy.engine import make_url

from mdstore.store.dialects.postgresql_pipeline import one_message
from tests.databases.servers import Server

pytestmark = pytest.mark.postgresql


@pytest.fixture
def connection(postgresql: Server) -> Iterator[Any]:
    url = make_url(postgresql.url("postgres"))
    with psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database, autocommit=True
    ) as connected:
        connected.prepare_threshold = 1
        connected.execute("CREATE TEMPORARY TABLE given (number BIGINT PRIMARY KEY, text TEXT)")
        yield connected


def is_idle(connection: Any) -> bool:
    return (connection.info.pipeline_status, connection.info.transaction_status) == (
        PipelineStatus.OFF,
        TransactionStatus.IDLE,
    )


def in_one(connection: Any, *statements: tuple[str, list[Any]]) -> None:
    with one_message(connection):
        for text, arguments in statements:
            connection.execute(text, arguments)


def test_each_statement_has_its_own_result(connection: Any) -> None:
    # Again and again, for what is prepared the second time and known the third.
    for turn in range(4):
        with one_message(connection):
            connection.execute("BEGIN", prepare=False)
            written = connection.execute("INSERT INTO given VALUES (%s, %s)", [turn, "x" * turn])
            many = connection.cursor()
            many.executemany("UPDATE given SET text = %s WHERE number = %s", [(f"{turn}.{n}", n) for n in range(2)])
            read = connection.execute("SELECT number, text FROM given WHERE number <= %s ORDER BY 1", [turn])
            none = connection.execute("SELECT 1 WHERE %s::BIGINT < 0", [turn])
            ended = connection.execute("COMMIT", prepare=False)
        assert written.rowcount == 1
        assert many.rowcount == min(turn + 1, 2)
        assert read.fetchall() == [(n, f"{turn}.{n}" if n < 2 else "x" * n) for n in range(turn + 1)]
        assert none.fetchall() == []
        assert ended.statusmessage == "COMMIT"
        assert is_idle(connection)


@pytest.mark.parametrize("prepared", [False, True])
def test_behind_one_that_fails_none_is_done(connection: Any, prepared: bool) -> None:
    insert = "INSERT INTO given VALUES (%s, 'x')"
    for number in range(3 if prepared else 1):
        connection.execute(insert, [number])
    deletion = "DELETE FROM given WHERE number > %s"
    with pytest.raises(psycopg.errors.UniqueViolation):
        in_one(
            connection, ("BEGIN", []), (deletion, [0]), (insert, [0]), ("SELECT it that is_nowhere", []), ("COMMIT", [])
        )
    assert connection.info.pipeline_status is PipelineStatus.OFF
    assert connection.info.transaction_status is TransactionStatus.INERROR
    connection.rollback()
    # What the driver thinks is prepared is so.
    for number in (5, 6, 7):
        with one_message(connection):
            connection.execute(insert, [number])
            connection.execute(deletion, [6])
    found = [number for (number,) in connection.execute("SELECT number FROM given ORDER BY 1")]
    assert found == [*range(3 if prepared else 1), 5, 6]


def test_much_more_than_sockets_hold_goes_both_ways(connection: Any) -> None:
    texts = [chr(97 + n % 26) * 200_000 for n in range(150)]
    with one_message(connection):
        cursors = [connection.execute("SELECT %s::TEXT, pg_size_pretty(%s::BIGINT)", [text, 1]) for text in texts]
    assert [cursor.fetchall() for cursor in cursors] == [[(text, "1 bytes")] for text in texts]
    assert is_idle(connection)


def test_what_cannot_be_sent_is_said_and_leaves_the_connection_of_use(connection: Any) -> None:
    with pytest.raises(psycopg.DataError):
        in_one(connection, ("SELECT %s", ["a"]), ("SELECT %s", ["no text of PostgreSQL: \0"]))
    assert is_idle(connection)
    assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_connection_that_is_cut_off_amid_a_message_is_closed(connection: Any, postgresql: Server) -> None:
    pid = connection.info.backend_pid
    cutter = threading.Timer(0.3, lambda: postgresql.execute("postgres", f"SELECT pg_terminate_backend({pid})"))
    cutter.start()
    with pytest.raises(psycopg.OperationalError):
        in_one(connection, ("SELECT 1", []), ("SELECT pg_sleep(%s)", [20]), ("SELECT 2", []))
    cutter.join()
    assert connection.closed


def test_a_query_that_is_stopped_amid_a_message_leaves_the_connection_of_use(connection: Any) -> None:
    stopper = threading.Timer(0.3, connection.cancel_safe)
    stopper.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        in_one(connection, ("SELECT pg_sleep(%s)", [20]), ("SELECT 2", []))
    stopper.join()
    assert is_idle(connection)
    assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_it_is_one_message_each_way(connection: Any) -> None:
    """Several statements take the server's answer once: they would not, if any were waited for before the next."""
    with one_message(connection):
        cursors = [connection.execute("SELECT %s::BIGINT", [n]) for n in range(10)]
        # Nobody has read an answer yet.
        assert all(cursor.pgresult is None for cursor in cursors)
    assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(10)]
