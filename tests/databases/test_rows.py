"""Rows are read off a MySQL server's messages as PyMySQL reads them, whatever is in them and however they end."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT, CR
from sqlalchemy.engine import make_url

from mdstore.store.database import open_database
from mdstore.store.dialects import mysql_rows
from tests.databases.servers import Server

pytestmark = pytest.mark.mariadb

MANY_NULLS = ", ".join(["NULL", "7"] * 150)
QUESTIONS = [
    pytest.param("SELECT NULL, 0, -1, 9223372036854775807, -9223372036854775808, TRUE", id="integers"),
    pytest.param("SELECT 1e0, -1.5e300, 0.1e0, 1.7976931348623157e308, 5e-324", id="floats"),
    pytest.param("SELECT 1.10, SUM(seq), AVG(seq) FROM seq_1_to_3", id="decimals"),
    pytest.param("SELECT '', 'a', 'Grüße', '\N{PILE OF POO}', CONCAT('nul', CHAR(0 USING utf8mb4))", id="texts"),
    pytest.param("SELECT X'', X'00ff80', CAST('text' AS BINARY)", id="bytes"),
    pytest.param("SELECT DATE '2026-11-25', TIME '25:00:01', TIMESTAMP '2026-11-25 01:02:03.5'", id="times"),
    pytest.param(
        "SELECT " + ", ".join(f"REPEAT('x', {size})" for size in (250, 251, 252, 65_535, 65_536, 70_000)), id="lengths"
    ),
    pytest.param("SELECT REPEAT('é', seq) FROM seq_1_to_300", id="many rows, whose packets' numbers begin anew"),
    pytest.param(f"SELECT {MANY_NULLS}", id="many columns"),
    pytest.param("SELECT 1 FROM seq_1_to_1 WHERE FALSE", id="no row"),
    pytest.param("SELECT REPEAT('x', 254) UNION ALL SELECT REPEAT('y', 255)", id="rows that begin as an end might"),
    pytest.param("SELECT REPEAT('x', 16777215 + 100), 5 UNION ALL SELECT 'y', 6", id="a row of several packets"),
    pytest.param("SELECT REPEAT(X'ff', 2 * 16777215 + 100), 5", id="packets that begin as an error would"),
    pytest.param("SELECT REPEAT('x', 16777215 - 6), 5 UNION ALL SELECT 'y', 6", id="one that ends with a packet"),
]


@pytest.fixture(scope="module")
def roomy(mariadb: Server) -> Iterator[Server]:
    """A server that sends large rows."""
    ((usual,),) = mariadb.execute("", "SELECT @@GLOBAL.max_allowed_packet")
    mariadb.execute("", f"SET GLOBAL max_allowed_packet = {64 * 1024 * 1024}")
    yield mariadb
    mariadb.execute("", f"SET GLOBAL max_allowed_packet = {usual}")


def connect(server: Server, kind: Any) -> Any:
    # Series of numbers are tables of any database.
    server.execute("", "CREATE DATABASE IF NOT EXISTS rows_of")
    url = make_url(server.url("rows_of"))
    return closing(
        kind(
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            database=url.database,
            charset="utf8mb4",
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
        )
    )


@pytest.mark.parametrize("question", QUESTIONS)
def test_rows_are_what_the_driver_makes_of_them(roomy: Server, question: str) -> None:
    found = []
    for kind in (pymysql.connections.Connection, mysql_rows.Connection):
        with connect(roomy, kind) as connection, connection.cursor() as cursor:
            # Twice, for what was remembered of it, and two behind each other in a message.
            for _ in range(2):
                count = cursor.execute(question)
                found.append((count, cursor.description, cursor.fetchall()))
    assert found[0] == found[1] == found[2] == found[3]
    assert [[type(value) for value in row] for row in found[0][2]] == [
        [type(value) for value in row] for row in found[3][2]
    ]


def test_queries_of_one_message_follow_each_other(mariadb: Server) -> None:
    with connect(mariadb, mysql_rows.Connection) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1; DO 2; SELECT 'x', NULL FROM seq_1_to_2")
        found = [list(cursor.fetchall())]
        while cursor.nextset():
            found.append(list(cursor.fetchall()))
    assert found == [[(1,)], [], [("x", None), ("x", None)]]


def test_a_text_that_is_not_utf_8_does_not_hide_the_others(mariadb: Server) -> None:
    with connect(mariadb, mysql_rows.Connection) as connection, connection.cursor() as cursor:
        cursor.execute("SET NAMES latin1")
        cursor.execute("SELECT _latin1 X'C3BC', 1, _latin1 X'61FF62', 2 UNION ALL SELECT 'fine', 3, 'too', 4")
        assert cursor.fetchall() == (("ü", 1, "a\N{REPLACEMENT CHARACTER}b", 2), ("fine", 3, "too", 4))


def test_what_fails_amid_its_rows_says_so_and_leaves_the_connection_of_use(mariadb: Server) -> None:
    several = "(SELECT s.seq FROM seq_1_to_2 AS s WHERE s.seq <= IF(n.seq = 500, 2, 1))"
    with connect(mariadb, mysql_rows.Connection) as connection, connection.cursor() as cursor:
        with pytest.raises(pymysql.err.OperationalError, match="more than 1 row"):
            cursor.execute(f"SELECT REPEAT('x', 1000), {several} FROM seq_1_to_1000 AS n")
        cursor.execute("SELECT 'still'")
        assert cursor.fetchall() == (("still",),)


def test_a_connection_that_ends_amid_rows_is_lost(mariadb: Server) -> None:
    with connect(mariadb, mysql_rows.Connection) as connection, connection.cursor() as cursor:
        is_over = threading.Event()

        def cut() -> None:
            # The number of columns, the two, their end, and the first rows.
            while connection._next_seq_id < 6 and not is_over.wait(0.001):
                pass
            connection._sock.shutdown(socket.SHUT_RDWR)

        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            with pytest.raises(pymysql.err.OperationalError) as caught:
                cursor.execute("SELECT REPEAT('x', 100000), SLEEP(0.05) FROM seq_1_to_200")
        finally:
            is_over.set()
            cutter.join()
        assert caught.value.args[0] == CR.CR_SERVER_LOST
        assert not connection.open


def test_descriptions_are_not_remembered_without_end(mariadb: Server) -> None:
    with connect(mariadb, mysql_rows.Connection) as connection, connection.cursor() as cursor:
        for start in range(0, mysql_rows._REMEMBERED + 1000, 500):
            cursor.execute(f"SELECT {', '.join(f'1 AS a{start + n}' for n in range(500))}")
            assert cursor.description[-1][0] == f"a{start + 499}"
    assert len(mysql_rows._descriptions) <= mysql_rows._REMEMBERED


def test_rows_are_gone_when_who_read_them_lets_them_go(mariadb: Server) -> None:
    with open_database(mariadb.url("rows_kept")) as opened, opened.connection() as connection:
        found = opened.dialect.fetch(connection.cursor(), "SELECT REPEAT('x', 10) FROM seq_1_to_1000", ())
        assert len(found) == 1000
        # This one, and the argument.
        assert sys.getrefcount(found) == 2
