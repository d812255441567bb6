"""SQLite: a file of this machine, written by one at a time.

It runs with a write-ahead log and full durability: a commit that was acknowledged survives a power cut, and since the
writer commits for many requests at once that costs little.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL

from mdstore.errors import (
    Aborted,
    Cancelled,
    FailedPrecondition,
    Internal,
    MetadataError,
    ResourceExhausted,
    Unavailable,
)
from mdstore.store import tables
from mdstore.store.dialects import POOL_SIZE, Dialect, Row, Running, taken
from mdstore.store.dialects.filters_sqlite import SQLiteFilters
from mdstore.store.sql import Conflict, Delete, Insert, Update, Values, Write, encoded_messages, quote

BUSY_TIMEOUT_S: Final = 5.0
CACHE_KB: Final = 12 * 1024
"""Of pages, for one connection."""
_NEWEST_IDS: Final = "SELECT name, seq FROM sqlite_sequence"


class SQLite(Dialect):
    """The dialect of one file."""

    name = "sqlite"
    reads_inline = True
    errors = (sqlite3.Error,)
    filters = SQLiteFilters()

    def __init__(self) -> None:
        """No database yet."""
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def engine(self, url: URL, *, must_exist: bool) -> Engine:
        """The engine of a file; without a name, of one that is gone at the end."""
        if not url.database or url.database == ":memory:":
            # A file that only we know, and not ":memory:", which every connection would have for itself.
            self._temporary = tempfile.TemporaryDirectory(prefix="mdstore-", ignore_cleanup_errors=True)
            url = url.set(database=str(Path(self._temporary.name) / "metadata.db"))
        elif must_exist and not Path(url.database).exists():
            raise Unavailable(f"there is no database {str(url)!r}: start `mdstore serve` on it first, or name another")
        engine = create_engine(
            url,
            connect_args={"isolation_level": None, "cached_statements": 512, "timeout": BUSY_TIMEOUT_S},
            pool_size=POOL_SIZE,
            max_overflow=-1,
            pool_reset_on_return=None,
        )
        event.listen(engine, "connect", _set_up)
        return engine

    def close(self) -> None:
        """Delete a file that was to be gone at the end."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def begin_exclusive(self, connection: Connection) -> None:
        """Take the write lock: of two that open an empty file at once, the second waits and finds the tables."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def end_exclusive(self, connection: Connection, *, keep: bool) -> None:
        """Commit or roll back, tables included."""
        connection.exec_driver_sql("COMMIT" if keep else "ROLLBACK")

    def begin_write(self, connection: Any) -> Row | None:
        """Take the write lock; the head need not be read, since the update of it says whether it is the one known."""
        connection.execute("BEGIN IMMEDIATE")
        return None

    def begin_read(self, connection: Any) -> None:
        """Begin; the first statement fixes the moment."""
        connection.execute("BEGIN")

    def rollback(self, connection: Any) -> None:
        """Roll back; a full disk has done that already."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def savepoint(self, connection: Any, *, first: bool) -> None:
        """Set the savepoint."""
        if not first:
            connection.execute("RELEASE operation")
        connection.execute("SAVEPOINT operation")

    def foreign_version(self, connection: Any) -> int | None:
        """SQLite counts them."""
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def fetch(self, cursor: Any, text: str, arguments: Sequence[Any]) -> Sequence[Row]:
        """Run a query, and be lenient with texts that are not UTF-8."""
        try:
            rows: Sequence[Row] = cursor.execute(text, arguments).fetchall()
        except sqlite3.OperationalError as error:
            if "decode to UTF-8" not in str(error):
                raise
            # The library stores whatever bytes a client sent for a text; one such row must not hide the others.
            cursor.connection.text_factory = _decoded
            try:
                rows = cursor.execute(text, arguments).fetchall()
            finally:
                cursor.connection.text_factory = str
        return rows

    def list_parameter(self, values: Values) -> Any:
        """JSON text."""
        text = json.dumps(values, separators=(",", ":"))
        if "\\u0000" not in text:
            return text
        # SQLite's JSON cuts a text off at a NUL, and would find what is called like the rest. Nothing stored has one.
        return json.dumps([item for item in values if not (isinstance(item, str) and "\0" in item)])

    def write(self, cursor: Any, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """Run one prepared statement per row, which costs 2 µs."""
        cursor.executemany(_text(write), encoded_messages(write, rows))

    def check(self, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """Its columns hold everything."""

    def create(self, running: Running, insert: Insert, rows: Sequence[Sequence[Any]]) -> Sequence[int]:
        """Hand out the ids: the transaction holds the write lock, so nobody else does."""
        if not running.next_ids:
            running.statements += 1
            running.next_ids.update(self.ids_in(self.fetch(running.cursor, _NEWEST_IDS, ())))
        ids = list(islice(running.next_ids[insert.table.name], len(rows)))
        self.write(running.cursor, insert.with_id, [(row_id, *row) for row_id, row in zip(ids, rows, strict=True)])
        return ids

    def ask_for_ids(
        self,
        counts: Mapping[str, int],  # noqa: ARG002 (an interface)
        *,
        requests: int,  # noqa: ARG002 (an interface)
    ) -> tuple[str, Sequence[Any]] | None:
        """One look for all tables, however many ids."""
        return _NEWEST_IDS, ()

    def ids_in(self, rows: Sequence[Row]) -> dict[str, Iterator[int]]:
        """AUTOINCREMENT never gives an id twice, so neither do we."""
        newest = {table.name: 0 for table in tables.MLMD_TABLES} | {row[0]: row[1] for row in rows}
        return {name: count(seq + 1) for name, seq in newest.items()}

    def error(self, error: Exception, table: Table | None = None) -> MetadataError:
        """By SQLite's names of errors."""
        message = str(error)
        match getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").split("_"):
            case ["CONSTRAINT", "UNIQUE" | "PRIMARYKEY", *_]:
                # `UNIQUE constraint failed: Artifact.type_id, Artifact.name`
                columns = message.partition(": ")[2].split(", ")
                return taken(table, [column.partition(".")[2] for column in columns if "." in column])
            case ["BUSY" | "LOCKED", *_]:
                return Aborted(f"the database is busy: {message}; try again")
            case ["FULL", *_] | ["IOERR", "SHMSIZE"]:
                # The second is of the file that its connections share, for which there was no room.
                return ResourceExhausted(f"the disk is full: {message}")
            case ["READONLY", *_]:
                return FailedPrecondition(f"the database cannot be written: {message}")
            case ["IOERR" | "CANTOPEN" | "CORRUPT" | "NOTADB", *_]:
                return Unavailable(f"the database cannot be used: {message}")
            case ["INTERRUPT", *_]:
                return Cancelled("the query was stopped: its caller is gone, or it took too long")
            case ["TOOBIG", *_]:
                return ResourceExhausted(f"a value is too large for the database: {message}")
        return Internal(f"the database failed: {message}")

    def is_lost(self, connection: Any) -> bool:  # noqa: ARG002 (an interface)
        """A file does not go away."""
        return False

    def interrupt(self, connection: Any) -> None:
        """Stop the query."""
        connection.interrupt()


def _set_up(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY")
    # Each connection has one, and there are a dozen at most; the system's own cache is behind it.
    connection.execute(f"PRAGMA cache_size=-{CACHE_KB}")


def _decoded(data: bytes) -> str:
    return data.decode(errors="replace")


@cache
def _text(write: Write) -> str:
    table = quote("sqlite", write.table.name)
    names = [quote("sqlite", name) for name in write.parameters]
    match write:
        case Insert():
            text = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 (names)
            if write.conflict is Conflict.KEEP:
                text += " ON CONFLICT DO NOTHING"
            elif write.conflict is Conflict.REPLACE:
                key = ", ".join(quote("sqlite", name) for name in write.key)
                changed = ", ".join(f"{quote('sqlite', name)} = excluded.{name}" for name in write.replaced)
                text += f" ON CONFLICT ({key}) DO UPDATE SET {changed}"
        case Update():
            changed = ", ".join(f"{quote('sqlite', name)} = ?" for name in write.columns)
            text = f"UPDATE {table} SET {changed} WHERE {_each(write.key)}"  # noqa: S608 (names)
        case Delete():
            text = f"DELETE FROM {table} WHERE {_each(write.key)}"  # noqa: S608 (names)
    return text


def _each(key: Sequence[str]) -> str:
    return " AND ".join(f"{quote('sqlite', name)} = ?" for name in key)
