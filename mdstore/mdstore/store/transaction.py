"""What an operation runs on: one connection inside one transaction, one moment, and what it has changed so far."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mdstore.store.dialects import Dialect, Row
from mdstore.store.interruption import Interruption
from mdstore.store.sql import Insert, Statement, Values, Write
from mdstore.wire import changes

__all__ = ["Declaration", "Row", "Transaction", "now_ms"]


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

    def __init__(self, connection: Any, dialect: Dialect, now_ms: Callable[[], int]) -> None:
        """Wrap a driver's connection that is inside a transaction.

        Args:
            connection: a DBAPI connection.
            dialect: of the database.
            now_ms: the clock, milliseconds since the Unix epoch.
        """
        self.cursor = connection.cursor()
        self._dialect = dialect
        self.dialect = dialect.name
        """Decides the texts of the statements."""
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
        self.next_ids: dict[str, int] = {}
        self._interruption: Interruption | None = None

    @contextmanager
    def interruptible(self, interruption: Interruption) -> Iterator[None]:
        """Inside the block, `interruption` stops the queries of this transaction."""
        self._interruption = interruption
        connection = self.cursor.connection
        with interruption.covering(lambda: self._dialect.interrupt(connection)):
            yield

    def rows(self, statement: Statement, **parameters: Any) -> Sequence[Row]:
        """Run a query and return all its rows."""
        compiled = statement.on(self.dialect)
        return self.text_rows(compiled.text, compiled.arguments(parameters))

    def text_rows(self, text: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Run a query that was compiled by the caller."""
        self.statements += 1
        if self._interruption is not None:
            self._interruption.check()
        try:
            return self._dialect.fetch(self.cursor, text, self._arguments(parameters))
        except self._dialect.errors as error:
            raise self._dialect.error(error) from error

    def _arguments(self, parameters: Sequence[Any]) -> Sequence[Any]:
        return [self._dialect.list_parameter(value) if type(value) is Values else value for value in parameters]

    def run(self, statement: Statement, **parameters: Any) -> bool:
        """Run a statement that has no rows, and say whether it met any."""
        compiled = statement.on(self.dialect)
        self.statements += 1
        try:
            self.cursor.execute(compiled.text, self._arguments(compiled.arguments(parameters)))
        except self._dialect.errors as error:
            raise self._dialect.error(error) from error
        return bool(self.cursor.rowcount)

    def many(self, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, each with the values of `write.parameters`, in one go.

        Raises:
            AlreadyExists: a row breaks a unique key.
        """
        if not rows:
            return
        self.statements += 1
        try:
            self._dialect.write(self.cursor, write, rows)
        except self._dialect.errors as error:
            raise self._dialect.error(error, write.table) from error

    def create(self, insert: Insert, rows: Sequence[Sequence[Any]]) -> Sequence[int]:
        """Insert rows and return the ids that they got, in their order and ascending.

        Raises:
            AlreadyExists: a row breaks a unique key.
        """
        if not rows:
            return ()
        self.statements += 1
        try:
            return self._dialect.create(self, insert, rows)
        except self._dialect.errors as error:
            raise self._dialect.error(error, insert.table) from error

    def forget(self) -> None:
        """After a rollback to a savepoint: ids that were handed out and types that were read may not be there."""
        self.next_ids = {}
        self.known_types = {}
