"""What an operation runs on: one connection inside one transaction, one moment, and what it has changed so far."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Any

from sqlalchemy import Table

from mdstore.errors import MetadataError
from mdstore.store.dialects import Dialect, Row
from mdstore.store.interruption import Interruption
from mdstore.store.known import Declaration, Known
from mdstore.store.pending import Pending, tables_in
from mdstore.store.sql import Insert, Statement, Values, Write
from mdstore.wire import changes

__all__ = ["Declaration", "Refused", "Row", "Transaction", "now_ms"]


def now_ms() -> int:
    """The clock of the store, in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Refused(Exception):
    """The database refused rows that were written late: nothing says which operation they are of."""

    def __init__(self, error: MetadataError) -> None:
        """Take what the refusal means."""
        super().__init__(str(error))
        self.error = error


class State(Enum):
    """Of a transaction, as far as its database knows."""

    UNBEGUN = auto()
    OPEN = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is run together."""

    texts: Sequence[tuple[str, Sequence[Any]]]
    with_ids: bool
    """The last one gives ids for new rows."""


class Transaction:
    """One transaction. Operations neither begin nor commit; whoever scheduled them does.

    Threads: belongs to the thread that works on its connection.
    """

    def __init__(
        self, connection: Any, dialect: Dialect, now_ms: Callable[[], int], *, begins_itself: bool = False
    ) -> None:
        """Wrap a driver's connection that is inside a transaction.

        Args:
            connection: a DBAPI connection.
            dialect: of the database.
            now_ms: the clock, milliseconds since the Unix epoch.
            begins_itself: it is not yet, and only reads: the transaction begins together with its first question,
                and ends with what is asked `at_last`.
        """
        self.cursor = connection.cursor()
        self._dialect = dialect
        self.dialect = dialect.name
        """Decides the texts of the statements."""
        self.filters = dialect.filters
        """Decides those of filter queries."""
        self.now_ms = now_ms
        self.statements = 0
        """How many SQL statements were run, for the budgets that tests hold."""
        self.trips = 0
        """How often the database was waited for; beginning is not counted, and a commit goes with the last writes."""
        self.state = State.UNBEGUN if begins_itself else State.OPEN
        self._ends_itself = begins_itself
        self.changes = changes.Changes()
        """What the operation did, for the change log."""
        self.origin = "mlmd"
        self.actor = ""
        self.earlier: list[changes.Changes] = []
        """What operations before this one did in the same transaction; not in the change log yet."""
        self.known = Known()
        self.next_ids: dict[str, Iterator[int]] = {}
        self.writes_late = False
        """Whether rows may wait: until somebody reads their table, or until `finish`."""
        self.is_mixed = False
        """Whether the running operation has written to the database: its rows can no longer be told from the others."""
        self._mine = Pending()
        """Of the running operation."""
        self._done = Pending()
        """Of the operations before."""
        self._interruption: Interruption | None = None

    @contextmanager
    def interruptible(self, interruption: Interruption) -> Iterator[None]:
        """Inside the block, `interruption` stops the queries of this transaction."""
        self._interruption = interruption
        connection = self.cursor.connection
        with interruption.covering(lambda: self._dialect.interrupt(connection)):
            yield

    # --- reading

    def rows(self, statement: Statement, **parameters: Any) -> Sequence[Row]:
        """Run a query and return all its rows."""
        compiled = statement.on(self.dialect)
        return self.text_rows(compiled.text, compiled.arguments(parameters))

    def text_rows(self, text: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Run a query that was compiled by the caller."""
        if self._done or self._mine:
            self._write(tables_in(text))
        self.statements += 1
        self.trips += 1
        if self._interruption is not None:
            self._interruption.check()
        arguments = self._arguments(parameters)
        try:
            if self.state is State.OPEN:
                return self._dialect.fetch(self.cursor, text, arguments)
            return self._begin_with([(text, arguments)])[0]
        except self._dialect.errors as error:
            raise self._dialect.error(error) from error

    def is_from_database(self, error: MetadataError) -> bool:
        """Whether the database itself refused something, after which PostgreSQL answers no more questions."""
        return isinstance(error.__cause__, self._dialect.errors)

    def rows_at_last(self, *questions: tuple[Statement, Mapping[str, Any]]) -> list[Sequence[Row]]:
        """The rows of the last queries of an operation, which ends a transaction that only reads.

        Where they are its first ones too, it needs none.
        """
        if self._done or self._mine:
            return [self.rows(statement, **parameters) for statement, parameters in questions]
        if self._interruption is not None:
            self._interruption.check()
        asked = self.asked(questions, {})
        try:
            if self.state is State.UNBEGUN:
                found = self._begin_with(asked.texts, ends=True)
            elif self._ends_itself:
                found = self._dialect.ask_and_end(self.cursor, asked.texts)
                self.state = State.OVER
            else:
                found = self._dialect.fetch_all(self.cursor, asked.texts)
        except self._dialect.errors as error:
            raise self._dialect.error(error) from error
        return self.answered(asked, found)

    def _begin_with(self, texts: Sequence[tuple[str, Sequence[Any]]], *, ends: bool = False) -> list[Sequence[Row]]:
        assert self.state is State.UNBEGUN, "something is asked after what was to be the last"
        if ends:
            found = self._dialect.ask_once(self.cursor, texts)
            self.state = State.OVER
        else:
            # Also when that fails, there is something to end.
            self.state = State.OPEN
            found = self._dialect.begin_read_and_ask(self.cursor, texts)
        return found

    def ask(
        self, questions: Sequence[tuple[Statement, Mapping[str, Any]]], new_ids: Mapping[str, int], *, requests: int = 1
    ) -> list[Sequence[Row]]:
        """Run queries together, before anything is written, and take ids for new rows, as far as the database can.

        Args:
            questions: statements and their parameters.
            new_ids: table -> how many ids will be needed.
            requests: for how many requests all this is.

        Returns:
            The rows of each query.
        """
        asked = self.asked(questions, new_ids, requests=requests)
        if not asked.texts:
            return []
        try:
            found = self._dialect.fetch_all(self.cursor, asked.texts)
        except self._dialect.errors as error:
            raise self._dialect.error(error) from error
        return self.answered(asked, found)

    def asked(
        self, questions: Sequence[tuple[Statement, Mapping[str, Any]]], new_ids: Mapping[str, int], *, requests: int = 1
    ) -> Asked:
        """The texts of what `ask` would run, for who runs them while beginning."""
        texts = []
        for statement, parameters in questions:
            compiled = statement.on(self.dialect)
            texts.append((compiled.text, self._arguments(compiled.arguments(parameters))))
        for_ids = self._dialect.ask_for_ids(new_ids, requests=requests) if new_ids else None
        if for_ids is not None:
            texts.append(for_ids)
        return Asked(texts, with_ids=for_ids is not None)

    def answered(self, asked: Asked, found: list[Sequence[Row]]) -> list[Sequence[Row]]:
        """The rows of each query, once the ids behind them are taken."""
        self.statements += len(asked.texts)
        self.trips += 1
        if asked.with_ids:
            self.next_ids.update(self._dialect.ids_in(found.pop()))
        return found

    def _arguments(self, parameters: Sequence[Any]) -> Sequence[Any]:
        return [self._dialect.list_parameter(value) if type(value) is Values else value for value in parameters]

    # --- writing

    def run(self, statement: Statement, **parameters: Any) -> bool:
        """Run a statement that has no rows, and say whether it met any."""
        compiled = statement.on(self.dialect)
        among = tables_in(compiled.text)
        self._at_once(among)
        try:
            self.cursor.execute(compiled.text, self._arguments(compiled.arguments(parameters)))
        except self._dialect.errors as error:
            raise self._dialect.error(error, *among if len(among) == 1 else ()) from error
        return bool(self.cursor.rowcount)

    def many(self, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, each with the values of `write.parameters`, in one go.

        Raises:
            AlreadyExists: a row breaks a unique key.
        """
        if not rows:
            return
        self._dialect.check(write, rows)
        self._at_once((write.table,))
        try:
            self._dialect.write(self.cursor, write, rows)
        except self._dialect.errors as error:
            raise self._dialect.error(error, write.table) from error

    def later(self, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows whose place among other writes does not matter: maybe with those of other operations.

        Raises:
            AlreadyExists: a row breaks a unique key; maybe only later, as `Refused`.
        """
        if not rows:
            return
        if not self.writes_late:
            self.many(write, rows)
            return
        self._dialect.check(write, rows)
        if self._mine.collides(write, rows):
            self._write((write.table,))
        self._mine.add(write, rows)

    def create(self, insert: Insert, rows: Sequence[Sequence[Any]]) -> Sequence[int]:
        """Insert rows, maybe late, and return the ids that they get, in their order and ascending.

        Raises:
            AlreadyExists: a row breaks a unique key; maybe only later, as `Refused`.
        """
        if not rows:
            return ()
        if self.writes_late:
            ids = self._take_ids(insert.table, len(rows))
            if ids is not None:
                self.later(insert.with_id, [(row_id, *row) for row_id, row in zip(ids, rows, strict=True)])
                return ids
        self._dialect.check(insert, rows)
        self._at_once(())
        try:
            return self._dialect.create(self, insert, rows)
        except self._dialect.errors as error:
            raise self._dialect.error(error, insert.table) from error

    def _take_ids(self, table: Table, count: int) -> Sequence[int] | None:
        ids = list(islice(self.next_ids.get(table.name, iter(())), count))
        if len(ids) < count:
            self.ask((), {table.name: count - len(ids)})
            ids += islice(self.next_ids.get(table.name, iter(())), count - len(ids))
        return ids if len(ids) == count else None

    def _at_once(self, among: Collection[Table]) -> None:
        """A statement is about to be run that writes; what waits for these tables goes first."""
        if self._done or self._mine:
            self._write(among)
        self.is_mixed = True
        self.statements += 1
        self.trips += 1

    def _write(self, among: Collection[Table]) -> None:
        writes = self._done.take(among)
        mine = self._mine.take(among)
        if mine:
            self.is_mixed = True
            writes += mine
        if not writes:
            return
        self.statements += len(writes)
        self.trips += 1
        try:
            self._dialect.write_all(self.cursor, writes)
        except self._dialect.errors as error:
            raise Refused(self._dialect.error(error)) from error

    # --- the operations of one transaction

    def begin_operation(self) -> None:
        """What follows is another operation's."""
        self.changes = changes.Changes()
        self.origin, self.actor = "mlmd", ""
        self.is_mixed = False
        self.known.is_changed = False

    def end_operation(self) -> None:
        """The operation is done; its rows wait for the end of the transaction."""
        for write, rows in self._mine.take():
            if self._done.collides(write, rows):
                self._write((write.table,))
            self._done.add(write, rows)
        self.earlier.append(self.changes)

    def drop_operation(self) -> bool:
        """The operation failed: forget its rows, and say whether that is all that was to be done."""
        if self.known.is_changed:
            self.known = Known()
        self._mine.clear()
        return not self.is_mixed

    def forget(self) -> None:
        """After a rollback to a savepoint: ids that were handed out and what was read may not be there."""
        self.next_ids = {}
        self.known = Known()

    def finish(self) -> None:
        """Write what waits, and commit.

        Raises:
            Refused: the database would not have it, and nothing was committed; of the error `Unavailable`, nobody
                knows.
        """
        writes = self._done.take() + self._mine.take()
        self.statements += len(writes)
        self.trips += 1
        try:
            self._dialect.finish(self.cursor, writes)
        except self._dialect.errors as error:
            raise Refused(self._dialect.error(error)) from error
