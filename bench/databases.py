"""The databases that are measured on, each durable and as its users run it, and empty ones of the library's schema.

Durability is the same for all who are compared: PostgreSQL and MariaDB wait for the disk at each commit
(`fsync`, `innodb_flush_log_at_trx_commit=1`), on SQLite both sides have `synchronous=FULL`, the library with its
rollback journal and mdstore with a write-ahead log.
"""

import json
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.databases.servers import MariaDBServer, PostgreSQLServer, Server

ENGINES: Final = ("sqlite", "postgresql", "mariadb")
DURABILITY: Final = {
    "sqlite": "mdstore: write-ahead log, synchronous=FULL; library: rollback journal, synchronous=FULL (its default)",
    "postgresql": "fsync=on, synchronous_commit=on, full_page_writes=on",
    "mariadb": "innodb_flush_log_at_trx_commit=1, innodb_flush_method=fsync, sync_binlog: no binary log",
}
BUFFERS_MB: Final = 1024
"""What a database server may keep of its tables in memory."""


class Bed(ABC):
    """One database server, or for SQLite one folder, with databases by name."""

    engine: str

    @abstractmethod
    def url(self, name: str) -> str:
        """Of a database, for mdstore."""

    @abstractmethod
    def library_config(self, name: str) -> str:
        """The same for the library: its `ConnectionConfig` as JSON."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Delete a database; nothing when it is not there."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a database."""

    @abstractmethod
    def execute(self, name: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on a connection of its own; returns the rows of the last one."""

    def pid(self) -> int | None:
        """The process whose children work for the database, or None when there is none."""
        return None


class SQLiteBed(Bed):
    """Files in a folder."""

    engine = "sqlite"

    def __init__(self, folder: Path) -> None:
        """Keep the files in `folder`, which is there."""
        self.folder = folder

    def url(self, name: str) -> str:
        return f"sqlite:///{self.folder / name}.db"

    def library_config(self, name: str) -> str:
        return json.dumps({"sqlite": {"filenameUri": str(self.folder / f"{name}.db"), "connectionMode": 3}})

    def drop(self, name: str) -> None:
        for file in self.folder.glob(f"{name}.db*"):
            file.unlink()

    def exists(self, name: str) -> bool:
        return (self.folder / f"{name}.db").exists()

    def execute(self, name: str, *statements: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.folder / f"{name}.db", isolation_level=None)
        try:
            connection.execute("PRAGMA cache_size = -500000")
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                rows = connection.execute(statement).fetchall()
        finally:
            connection.close()
        return rows


class ServerBed(Bed):
    """A server of the tests' kind, durable."""

    def __init__(self, engine: str, server: Server) -> None:
        """Use a server that runs."""
        self.engine = engine
        self._server = server

    def url(self, name: str) -> str:
        return self._server.url(name)

    def library_config(self, name: str) -> str:
        return json.dumps(self._server.library_config(name))

    def drop(self, name: str) -> None:
        self._server.execute("postgres" if self.engine == "postgresql" else "", f"DROP DATABASE IF EXISTS {name}")

    def exists(self, name: str) -> bool:
        if self.engine == "postgresql":
            return bool(self.execute("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))
        return bool(self.execute("", f"SELECT 1 FROM information_schema.schemata WHERE schema_name = '{name}'"))

    def execute(self, name: str, *statements: str) -> list[tuple[Any, ...]]:
        return self._server.execute(name, *statements)

    def pid(self) -> int | None:
        return self._server.pid()


@contextmanager
def bed(engine: str, data: Path | None = None) -> Iterator[Bed]:
    """A place for databases of one kind.

    Args:
        engine: one of `ENGINES`.
        data: a folder in which they stay for another time; None for a new one that is deleted at the end.
    """
    if engine == "sqlite":
        with tempfile.TemporaryDirectory(prefix="mdstore-bench-") as name:
            folder = Path(name) if data is None else data / "sqlite"
            folder.mkdir(parents=True, exist_ok=True)
            yield SQLiteBed(folder)
        return
    kind = {"postgresql": PostgreSQLServer, "mariadb": MariaDBServer}[engine]
    with kind(durable=True, buffers_mb=BUFFERS_MB, folder=None if data is None else data / engine) as server:
        yield ServerBed(engine, server)
