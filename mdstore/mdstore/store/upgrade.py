"""Upgrading a database of an older MLMD schema (0 to 9) to version 10.

Every table is made anew as version 10 has it, filled from the old one, and takes its place: the result is the same as a
fresh database, whatever version it came from. All of it is one transaction, so an upgrade that is interrupted has
changed nothing.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, Table, create_engine, insert, inspect, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from mdstore.errors import DataLoss, FailedPrecondition, InvalidArgument, Unavailable
from mdstore.store import tables

OLD: Final = "mdstore_upgrade_"
"""Before the name of a table while its successor is filled."""

NEWS: Final = {
    1: "the table MLMDEnv, which holds the version",
    2: "Type.is_artifact_type becomes Type.type_kind",
    3: "contexts",
    4: "associations and attributions",
    5: "names, states and times of artifacts and executions (times of what is there become 0)",
    6: "parent types, parent contexts, versions and descriptions of types; indexes",
    7: "byte values",
    8: "one event of a type between two nodes: of duplicates the newest stays; property indexes",
    9: "external ids",
    10: "proto and boolean values",
}
"""What each version brought."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade will do."""

    from_version: int
    rows: dict[str, int]
    """Table -> rows that will be copied."""
    duplicate_events: int
    """Events that go because a newer one of the same type joins the same nodes."""

    @property
    def steps(self) -> list[str]:
        """The versions to go through, and what each brings."""
        return [f"{version}: {NEWS[version]}" for version in range(self.from_version + 1, tables.SCHEMA_VERSION + 1)]


def plan_upgrade(url: str) -> Upgrade | None:
    """What an upgrade of the database at `url` would do; None when it has version 10 already.

    Raises:
        InvalidArgument: not a database that can be upgraded here.
        Unavailable: it is not there, or cannot be opened.
        FailedPrecondition: it holds no MLMD tables, or those of a newer version.
        DataLoss: MLMDEnv does not have one row.
    """
    with _opened(url) as engine, engine.connect() as connection:
        return _plan(connection)


def upgrade(url: str, on_table: Callable[[str], None] = lambda _: None) -> Upgrade | None:
    """Upgrade the database at `url`; returns what was done, or None when it had version 10 already.

    Args:
        url: of the database; nobody else should use it meanwhile.
        on_table: called with the name of each table once it is done.

    Raises:
        As `plan_upgrade`.
    """
    with _opened(url) as engine, engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            found = _plan(connection)
            if found is not None:
                _upgrade(connection, on_table)
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
        return found


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidArgument(f"{url!r} is no database URL: write sqlite:///FILE") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise InvalidArgument(f"{parsed.render_as_string()!r} cannot be upgraded here: write sqlite:///FILE")
    if not Path(parsed.database).exists():
        raise Unavailable(f"there is no database {url!r}")
    engine = create_engine(parsed, connect_args={"isolation_level": None})
    try:
        yield engine
    except (sqlite3.Error, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise Unavailable(f"cannot upgrade the database {url!r}: {cause}") from error
    finally:
        engine.dispose()


def _plan(connection: Connection) -> Upgrade | None:
    present = {table.name for table in tables.MLMD_TABLES} & set(inspect(connection).get_table_names())
    version = _version(connection, present)
    if version == tables.SCHEMA_VERSION:
        return None
    if version > tables.SCHEMA_VERSION:
        raise FailedPrecondition(f"the database has MLMD's schema version {version}: use a newer mdstore")
    counted = {
        name: _count(connection, f'SELECT count(*) FROM "{name}"')  # noqa: S608 (names of MLMD's schema)
        for name in sorted(present)
    }
    duplicates = _count(connection, "SELECT count(*) FROM Event") - _count(
        connection, "SELECT count(*) FROM (SELECT DISTINCT artifact_id, execution_id, type FROM Event)"
    )
    return Upgrade(version, counted, duplicates)


def _count(connection: Connection, query: str) -> int:
    return int(connection.exec_driver_sql(query).scalar_one())


def _version(connection: Connection, present: set[str]) -> int:
    if tables.MLMD_ENV.name in present:
        versions = connection.execute(select(tables.MLMD_ENV.c.schema_version)).scalars().all()
        if len(versions) != 1:
            raise DataLoss(f"MLMDEnv has {len(versions)} rows instead of one")
        return int(versions[0])
    if tables.TYPE.name in present and "is_artifact_type" in _columns(connection, tables.TYPE.name):
        return 0
    raise FailedPrecondition("the database holds no tables of MLMD that could be upgraded")


def _columns(connection: Connection, table: str) -> list[str]:
    return [row[1] for row in connection.exec_driver_sql(f'PRAGMA table_info("{table}")')]


def _upgrade(connection: Connection, on_table: Callable[[str], None]) -> None:
    present = set(inspect(connection).get_table_names())
    # Ids are never given twice, so what was given before counts, even if its row is gone.
    given: dict[str, int] = {
        row.name: row.seq for row in connection.execute(text("SELECT name, seq FROM sqlite_sequence"))
    }
    for table in tables.MLMD_TABLES:
        if table is tables.MLMD_ENV:
            continue
        if table.name in present:
            connection.exec_driver_sql(f'ALTER TABLE "{table.name}" RENAME TO "{OLD}{table.name}"')
        connection.execute(CreateTable(table))
        if table.name in present:
            _copy(connection, table)
            connection.exec_driver_sql(f'DROP TABLE "{OLD}{table.name}"')
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index not in tables.MISSING_INDEXES:
                connection.execute(CreateIndex(index))
        on_table(table.name)
    for name, seq in given.items():
        connection.execute(
            text("UPDATE sqlite_sequence SET seq = :seq WHERE name = :name AND seq < :seq"), {"name": name, "seq": seq}
        )
        connection.execute(
            text(
                "INSERT INTO sqlite_sequence (name, seq) SELECT :name, :seq "
                "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name) "
                "AND EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name)"
            ),
            {"name": name, "seq": seq},
        )
    if tables.MLMD_ENV.name in present:
        connection.execute(update(tables.MLMD_ENV).values(schema_version=tables.SCHEMA_VERSION))
    else:
        connection.execute(CreateTable(tables.MLMD_ENV))
        connection.execute(insert(tables.MLMD_ENV).values(schema_version=tables.SCHEMA_VERSION))


def _copy(connection: Connection, table: Table) -> None:
    old = f"{OLD}{table.name}"
    there = _columns(connection, old)
    into = [column.name for column in table.columns if column.name in there]
    out = list(into)
    if table is tables.TYPE and "is_artifact_type" in there:
        # 1 is an artifact's, 0 an execution's, as in type_kind; there were no contexts.
        into.append("type_kind")
        out.append("is_artifact_type")
    query = f'SELECT {", ".join(out)} FROM "{old}"'  # noqa: S608 (names of our own schema)
    if table is tables.EVENT:
        query += f' WHERE id IN (SELECT max(id) FROM "{old}" GROUP BY artifact_id, execution_id, type)'  # noqa: S608
    if table is tables.EVENT_PATH:
        # Of events that went; steps have no key, so their order is kept by the order of the rows.
        query += " WHERE event_id IN (SELECT id FROM Event) ORDER BY rowid"
    elif "id" in there:
        query += " ORDER BY id"
    connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({", ".join(into)}) {query}')
