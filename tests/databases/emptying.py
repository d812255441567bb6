"""An empty store on a server for each test: made once, and put back to what it was sooner than it could be made."""

from typing import Final

import mdstore
from mdstore.client.client import Client
from mdstore.store import tables
from tests.databases.servers import PostgreSQLServer, Server

_ALL: Final = tuple(table.name for table in (*tables.MLMD_TABLES, *tables.OUR_TABLES))
_WITH_IDS: Final = tuple(table.name for table in tables.MLMD_TABLES if "id" in table.c)


class EmptyStore:
    """A database with an empty store in it."""

    def __init__(self, server: Server, name: str) -> None:
        """Make it, and copies of its tables."""
        self._server = server
        self._name = name
        self._url = server.url(name)
        self._client = mdstore.connect(self._url)
        copied = []
        for table in _ALL:
            server.execute(name, f"CREATE TABLE fresh_{table} AS SELECT * FROM {table}")
            if server.execute(name, f"SELECT count(*) FROM {table}") != [(0,)]:
                copied.append(f"INSERT INTO {table} SELECT * FROM fresh_{table}")
        # Deleting a few rows is far sooner done than TRUNCATE, which makes a table's file anew.
        deleted = [f"DELETE FROM {table}" for table in _ALL]
        if isinstance(server, PostgreSQLServer):
            first = {"Type": "(SELECT max(id) + 1 FROM Type)"}
            reset = [
                f"SELECT setval(pg_get_serial_sequence('{table.lower()}', 'id'), {first.get(table, 1)}, false)"
                for table in _WITH_IDS
            ]
            self._statements = [";".join([*deleted, *copied, *reset])]
        else:
            # An ALTER takes 10 ms, so only where ids were given.
            numbers = ("Type", "Artifact", "Execution", "Context", "Event")
            reset = [
                f"IF (SELECT AUTO_INCREMENT > {count + 1} FROM information_schema.TABLES "
                f"WHERE TABLE_SCHEMA = '{name}' AND TABLE_NAME = '{table}') "
                f"THEN ALTER TABLE {table} AUTO_INCREMENT = 1; END IF"
                for table in numbers
                for ((count,),) in [server.execute(name, f"SELECT count(*) FROM {table}")]
            ]
            block = ";".join([*deleted, *copied, *reset])
            self._statements = [f"BEGIN NOT ATOMIC {block}; END"]

    def client(self) -> Client:
        """Empty it; returns a client, which stays open for the next test."""
        self._server.execute(self._name, *self._statements)
        return self._client

    def close(self) -> None:
        """Close the client."""
        self._client.close()
