"""Databases and their tables made: at once by several, and by who is killed meanwhile."""

import multiprocessing
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, event

import mdstore
from mdstore.store import tables
from mdstore.store.database import open_database
from tests.databases.servers import Server
from tests.databases.test_reliability import check_log
from tests.store.writing import put_type

AT_ONCE = 4


def test_servers_that_make_one_database_at_once_all_come_up(server: Server, database: str) -> None:
    url = server.url(database)
    barrier = Barrier(AT_ONCE)

    def open_and_write(number: int) -> int:
        barrier.wait(30)
        with mdstore.connect(url) as client:
            return put_type(client, "artifact", f"type {number}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ids = list(pool.map(open_and_write, range(AT_ONCE)))

    assert sorted(ids) == [10, 11, 12, 13]
    assert server.execute(database, "SELECT schema_version FROM MLMDEnv") == [(10,)]
    assert server.execute(database, "SELECT count(*) FROM mdstore_head") == [(1,)]
    check_log(url)


def _four_steps(url: str, done: Any) -> None:
    """Open, and die before the fifth statement that cannot be undone: rows are, so they would be put again for ever."""
    made: list[str] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def _die(_connection: object, _cursor: object, text: str, *_: object) -> None:
        if text.lstrip().startswith(("CREATE", "COMMIT", "DROP")):
            if len(made) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            made.append(text)

    open_database(url).close()
    done.set()


def schema(server: Server, database: str) -> dict[str, str]:
    found = [name for (name,) in server.execute(database, "SHOW TABLES")]
    return {
        name: re.sub(r" AUTO_INCREMENT=\d+", "", server.execute(database, f"SHOW CREATE TABLE `{name}`")[0][1])
        for name in sorted(found)
    }


@pytest.mark.mariadb
@pytest.mark.parametrize("of_the_library", [False, True])
def test_who_opens_after_one_that_was_killed_making_tables_makes_the_others(
    mariadb: Server, of_the_library: bool
) -> None:
    name, whole = (f"making_{of_the_library}_{what}".lower() for what in ("killed", "whole"))
    open_database(mariadb.url(whole)).close()
    if of_the_library:
        # Only our tables are to be made.
        mariadb.execute("", f"CREATE DATABASE {name}")
        for table in tables.MLMD_TABLES:
            mariadb.execute(name, f"CREATE TABLE {table.name} LIKE {whole}.{table.name}")
        for index in tables.MISSING_INDEXES:
            assert index.table is not None
            mariadb.execute(name, f"DROP INDEX {index.name} ON {index.table.name}")
        mariadb.execute(name, "INSERT INTO MLMDEnv VALUES (10)")
    # A process that is forked from one that has imported all of it begins in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    done = context.Event()
    killed = -1
    while not done.is_set():
        killed += 1
        process = context.Process(target=_four_steps, args=(mariadb.url(name), done))
        process.start()
        process.join(100)
        assert killed < 40
        assert process.exitcode == (0 if done.is_set() else -signal.SIGKILL)

    assert killed > (3 if of_the_library else 12)
    assert schema(mariadb, name) == schema(mariadb, whole)
    types = "SELECT id, name, type_kind FROM Type ORDER BY id"
    assert mariadb.execute(name, types) == mariadb.execute(whole, types)
    with mdstore.connect(mariadb.url(name)) as client:
        # Whoever was killed had been given ids.
        assert put_type(client, "artifact") >= 10
    check_log(mariadb.url(name))
