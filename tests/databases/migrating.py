"""Databases of MLMD's older schemas on a server, made by the library itself, and what is in a database's tables."""

import re
from collections.abc import Sequence
from typing import Any

from mdstore.store import tables
from tests.databases.servers import PostgreSQLServer, Server
from tests.judge.driver import judge


def copied(server: Server, database: str, copy: str) -> None:
    """Copy a database that nobody uses."""
    if isinstance(server, PostgreSQLServer):
        server.execute("postgres", f"CREATE DATABASE {copy} TEMPLATE {database}")
        return
    server.execute("", f"CREATE DATABASE {copy}")
    for (table,) in server.execute(database, "SHOW TABLES"):
        server.execute(
            copy,
            f"CREATE TABLE `{table}` LIKE {database}.`{table}`",
            f"INSERT INTO `{table}` SELECT * FROM {database}.`{table}`",
        )


def dropped(server: Server, database: str) -> None:
    """Drop a database, if it is there."""
    where = "postgres" if isinstance(server, PostgreSQLServer) else ""
    server.execute(where, f"DROP DATABASE IF EXISTS {database}")


class OldDatabases:
    """`<name>10` as the library fills it, `<name>N` after its downgrade to N, `<name>Nl` after its upgrade of that."""

    def __init__(self, server: Server, name: str, versions: Sequence[int], upgraded: Sequence[int]) -> None:
        """Make them."""
        self.server = server
        self.name = name
        config = server.library_config
        judge("migrations", port=0, steps=[("fill", config(f"{name}10"), 10)])
        for version in versions:
            copied(server, f"{name}10", f"{name}{version}")
        judge("migrations", port=0, steps=[("downgrade", config(f"{name}{version}"), version) for version in versions])
        for version in upgraded:
            copied(server, f"{name}{version}", f"{name}{version}l")
        judge("migrations", port=0, steps=[("upgrade", config(f"{name}{version}l"), 10) for version in upgraded])


def contents(server: Server, database: str) -> dict[str, tuple[Any, list[dict[str, Any]]]]:
    """Table of MLMD -> columns, keys and indexes, and rows."""
    shape = _postgresql_shape if isinstance(server, PostgreSQLServer) else _mysql_shape
    columns = columns_of(server, database)
    return {
        table.name: (shape(server, database, table.name), _rows(server, database, table, columns[table.name]))
        for table in tables.MLMD_TABLES
        if table.name in columns
    }


def rows(server: Server, database: str) -> dict[str, list[dict[str, Any]]]:
    """Table of MLMD -> its rows as column -> value, sorted, but for steps of paths, whose order is theirs."""
    columns = columns_of(server, database)
    return {
        table.name: _rows(server, database, table, columns[table.name])
        for table in tables.MLMD_TABLES
        if table.name in columns
    }


def columns_of(server: Server, database: str) -> dict[str, list[str]]:
    """Table of MLMD -> its columns, in their order."""
    schema = "public" if isinstance(server, PostgreSQLServer) else database
    known = {table.name.lower(): table.name for table in tables.MLMD_TABLES}
    found: dict[str, list[str]] = {}
    for table, column in server.execute(
        database,
        "SELECT table_name, column_name FROM information_schema.columns "
        f"WHERE table_schema = '{schema}' ORDER BY table_name, ordinal_position",
    ):
        if table.lower() in known:
            found.setdefault(known[table.lower()], []).append(column)
    return found


def _rows(server: Server, database: str, table: Any, columns: list[str]) -> list[dict[str, Any]]:
    found = [dict(zip(columns, row, strict=True)) for row in server.execute(database, f"SELECT * FROM {table.name}")]
    return sorted(found, key=(lambda row: int(row["event_id"])) if table is tables.EVENT_PATH else repr)


def _mysql_shape(server: Server, database: str, table: str) -> list[str]:
    ((_, definition),) = server.execute(database, f"SHOW CREATE TABLE `{table}`")
    # The library's upgrades have another name for this key than new databases, and another order of columns.
    named = re.sub(r"UNIQUE KEY `Unique\w+ExternalId`", "UNIQUE KEY `external_id`", definition)
    return sorted(line.rstrip(",") for line in named.splitlines() if "`mdstore_" not in line)


def _postgresql_shape(server: Server, database: str, table: str) -> dict[str, Any]:
    name = table.lower()
    return {
        "columns": server.execute(
            database,
            "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default "
            "FROM information_schema.columns "
            f"WHERE table_schema = 'public' AND table_name = '{name}' ORDER BY ordinal_position",
        ),
        "indexes": server.execute(
            database,
            f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename = '{name}' AND schemaname = 'public' "
            "AND indexname NOT LIKE 'mdstore%' ORDER BY indexname",
        ),
        "keys": server.execute(
            database,
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            f"WHERE conrelid = 'public.{name}'::regclass AND contype <> 'n' ORDER BY conname",
        ),
    }
