"""What an operation runs on: one connection inside one transaction, one moment, and what it has changed so far."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mdstore.errors import AlreadyExists
from mdstore.store.interruption import Interruption
from mdstore.store.sql import Statement
from mdstore.wire import changes

Row = tuple[Any, ...]


def now_ms() -> int:
    """The clock of the store, in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a write needs to know of a type."""

    id: int
    type_kind: int
    name: str
    properties: dict[str, int]
    """Name -> number of `PropertyType`."""


class Transaction:
    """One transaction. Operations neither begin nor commit; whoever scheduled them does.

    Threads: belongs to the thread that works on its connection.
    """

    def __init__(self, connection: Any, dialect: str, now_ms: Callable[[], int]) -> None:
        """Wrap a driver's connection that is inside a transaction.

        Args:
            connection: a DBAPI connection.
            dialect: "sqlite"; decides the texts of the statements.
            now_ms: the clock, milliseconds since the Unix epoch.
        """
        self._cursor = connection.cursor()
        self.dialect = dialect
        self.now_ms = now_ms
        self.statements = 0
        """How many SQL statements were run, for the budgets that tests hold."""
        self.changes = changes.Changes()
        """What the operation did, for the change log."""
        self.origin = "mlmd"
        self.actor = ""
        self.earlier: list[changes.Changes] = []
        """What operations before this one did in the same transaction; not in the change log yet."""
        self.known_types: dict[int, Declaration] = {}
        """Types that were read in this transaction, by id."""
        self._next_ids: dict[str, int] = {}
        self._interruption: Interruption | None = None

    @contextmanager
    def interruptible(self, interruption: Interruption) -> Iterator[None]:
        """Inside the block, `interruption` stops the queries of this transaction."""
        self._interruption = interruption
        with interruption.covering(self._cursor.connection):
            yield

    def rows(self, statement: Statement, **parameters: Any) -> Sequence[Row]:
        """Run a query and return all its rows."""
        compiled = statement.on(self.dialect)
        self.statements += 1
        return self._fetch(compiled.text, compiled.arguments(parameters))

    def text_rows(self, text: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Run a query that was compiled by the caller."""
        self.statements += 1
        return self._fetch(text, parameters)

    def _fetch(self, text: str, arguments: Sequence[Any]) -> Sequence[Row]:
        if self._interruption is not None:
            self._interruption.check()
        try:
            rows: Sequence[Row] = self._cursor.execute(text, arguments).fetchall()
        except sqlite3.OperationalError as error:
            if "decode to UTF-8" not in str(error):
                raise
            # The library stores whatever bytes a client sent for a text; one such row must not hide the others.
            self._cursor.connection.text_factory = _decoded
            try:
                rows = self._cursor.execute(text, arguments).fetchall()
            finally:
                self._cursor.connection.text_factory = str
        return rows

    def run(self, statement: Statement, **parameters: Any) -> None:
        """Run a statement that has no rows."""
        compiled = statement.on(self.dialect)
        self.statements += 1
        with unique_as_already_exists():
            self._cursor.execute(compiled.text, compiled.arguments(parameters))

    def many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once per row, each row in the order of the statement's parameters.

        Raises:
            AlreadyExists: a row breaks a unique key.
        """
        if not rows:
            return
        self.statements += 1
        with unique_as_already_exists():
            self._cursor.executemany(statement.on(self.dialect).text, rows)

    def allocate(self, table: str, count: int) -> range:
        """Ids for `count` new rows of a table, ascending; the transaction holds the write lock, so they are ours."""
        if not self._next_ids:
            # One look for all tables: AUTOINCREMENT never gives an id twice, so neither do we.
            found = self.text_rows("SELECT name, seq FROM sqlite_sequence")
            self._next_ids = {name: seq + 1 for name, seq in found}
            self._next_ids.setdefault("", 0)
        first = self._next_ids.get(table, 1)
        self._next_ids[table] = first + count
        return range(first, first + count)

    def run_if_any(self, statement: Statement, **parameters: Any) -> bool:
        """Run an update and say whether it met a row."""
        compiled = statement.on(self.dialect)
        self.statements += 1
        self._cursor.execute(compiled.text, compiled.arguments(parameters))
        return bool(self._cursor.rowcount)

    def forget(self) -> None:
        """After a rollback to a savepoint: ids that were handed out and types that were read may not be there."""
        self._next_ids = {}
        self.known_types = {}


def _decoded(data: bytes) -> str:
    return data.decode(errors="replace")


class unique_as_already_exists:  # noqa: N801 (a context manager, used like a function)
    """Turns a driver's unique violation into `AlreadyExists`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or kind is None or kind.__name__ != "IntegrityError":
            return
        message = str(error)
        if "UNIQUE constraint failed" in message or "unique" in message.lower():
            raise AlreadyExists(_explain_unique(message)) from error


def _explain_unique(message: str) -> str:
    """SQLite says `UNIQUE constraint failed: Artifact.type_id, Artifact.name`."""
    columns = message.partition(": ")[2]
    names: Iterable[str] = (column.strip() for column in columns.split(","))
    table = columns.partition(".")[0]
    fields = " and ".join(name.partition(".")[2] for name in names)
    if table == "Event":
        return "an event of the same type between the same artifact and execution is already there"
    if not fields:
        return "it is already there"
    return f"{table}: another one with the same {fields} is already there"
