"""What differs between databases, behind one interface: chosen once, when a database is opened.

Operations say what they want as values of `mdstore.store.sql` (a statement, a bulk insert, an update of many rows); a
dialect knows how its database does that in the fewest and cheapest round trips. Connections are the driver's, in
autocommit mode: transactions begin and end where this interface says so.
"""

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.engine import URL

from mdstore.errors import AlreadyExists, InvalidArgument, MetadataError
from mdstore.store.dialects.filters import FilterSQL
from mdstore.store.sql import Insert, Values, Write

Row = tuple[Any, ...]

POOL_SIZE: Final = 8
"""Connections that are kept open while nobody uses them."""
MOST_MORE: Final = 24
"""Connections to a server that there may be beside these while they are used."""
CONNECT_S: Final = 10
"""How long connecting may take."""
STOP_S: Final = 2
"""How long asking a server to stop a query may take."""
VANISHED_S: Final = 60
"""A server whose machine says nothing for so long, be it only that it has got something, is gone."""
RETRY_MS: Final = 1000
"""After so long a caller may ask again, when the database was not there."""


class Running(Protocol):
    """The transaction, as far as a dialect works on it."""

    cursor: Any
    statements: int
    next_ids: dict[str, Iterator[int]]
    """Ids that nobody else will give to a row of the table; empty when not known."""


class Dialect(ABC):
    """How one database is used. Threads: any may call; a connection belongs to one at a time."""

    name: ClassVar[str]
    """Of SQLAlchemy's dialect: "sqlite", "postgresql" or "mysql"."""
    reads_inline: ClassVar[bool]
    """Whether a point read is over sooner than a thread would be woken for it."""
    waits_by_function: ClassVar[bool] = False
    """Whether connections can be told how to wait for their server, so that no thread need wait with them."""
    undoes_tables: ClassVar[bool] = True
    """Whether a rollback undoes the making of tables too."""
    errors: ClassVar[tuple[type[Exception], ...]]
    """What the driver raises."""
    filters: ClassVar[FilterSQL]
    """How filter queries are said."""

    @abstractmethod
    def engine(self, url: URL, *, must_exist: bool) -> Engine:
        """Make the engine, whose connections are set up; nothing is connected yet.

        Raises:
            Unavailable: `must_exist`, and there is no such database.
        """

    def create_database(self, engine: Engine, error: Exception) -> bool:  # noqa: ARG002 (an interface)
        """Create the database if connecting failed because there is none; says whether to connect again."""
        return False

    def close(self) -> None:
        """Let go of what `engine` made beside the engine."""
        return

    # --- transactions

    @abstractmethod
    def begin_exclusive(self, connection: Connection) -> None:
        """Begin looking at the schema and changing it; of those who do so at once, one goes on."""

    @abstractmethod
    def end_exclusive(self, connection: Connection, *, keep: bool) -> None:
        """End it, keeping what was done, as far as the database can, or not."""

    @abstractmethod
    def begin_write(self, connection: Any) -> Row | None:
        """Begin a transaction that alone writes the log; returns the head's row where it must be read for that."""

    def begin_write_and_ask(
        self, connection: Any, texts: Sequence[tuple[str, Sequence[Any]]]
    ) -> tuple[Row | None, "list[Sequence[Row]] | Exception"]:
        """The same, then run queries, if the database can in one message.

        Returns:
            What `begin_write` does, and what `fetch_all` does or raises; that it could not begin is raised.
        """
        row = self.begin_write(connection)
        try:
            return row, self.fetch_all(connection.cursor(), texts) if texts else []
        except MetadataError as error:
            return row, error
        except self.errors as error:
            return row, error

    @abstractmethod
    def begin_read(self, connection: Any) -> None:
        """Begin a transaction whose statements all see one moment."""

    def begin_read_and_ask(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """The same, then run queries, in one message if the database can."""
        self.begin_read(cursor.connection)
        return [self.fetch(cursor, text, arguments) for text, arguments in texts]

    def ask_once(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """Run queries that all see one moment, outside any transaction, in one message if the database can."""
        if len(texts) == 1:
            return [self.fetch(cursor, *texts[0])]
        try:
            return self.begin_read_and_ask(cursor, texts)
        finally:
            self.rollback(cursor.connection)

    def ask_and_end(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """Run queries and end the reading transaction, in one message if the database can; not when one fails."""
        found = self.fetch_all(cursor, texts)
        self.rollback(cursor.connection)
        return found

    def commit(self, connection: Any) -> None:
        """End the transaction and keep what it did."""
        connection.cursor().execute("COMMIT")

    def rollback(self, connection: Any) -> None:
        """End the transaction, if one is open still, and undo what it did."""
        connection.cursor().execute("ROLLBACK")

    @abstractmethod
    def savepoint(self, connection: Any, *, first: bool) -> None:
        """Set the savepoint, in place of the earlier one if it is not the first of its transaction."""

    def rollback_to_savepoint(self, connection: Any) -> None:
        """Undo what was done since the savepoint."""
        connection.cursor().execute("ROLLBACK TO SAVEPOINT operation")

    def plan_for_values(self, connection: Any) -> None:  # noqa: ARG002 (an interface)
        """What follows in the writer's transaction is not only about keys: its plans depend on its values."""
        return

    def foreign_version(self, connection: Any) -> int | None:  # noqa: ARG002 (an interface)
        """A number that another one follows whenever somebody else has committed; None when there is none."""
        return None

    def wait_by(self, connection: Any, wait: Callable[[int, int], int], *, most_rows: int) -> bool:
        """Let a connection that only reads wait for its server by a function, where `waits_by_function`.

        Args:
            connection: waits by itself until now.
            wait: from a file descriptor and what is wanted of it (1 to read, 2 to write, 3) to what it is ready for.
            most_rows: queries with more are refused with `Cancelled`, or lose the connection.

        Returns:
            Whether this one can.
        """
        raise NotImplementedError

    # --- statements

    def fetch(self, cursor: Any, text: str, arguments: Sequence[Any]) -> Sequence[Row]:
        """Run a query and return all its rows."""
        cursor.execute(text, arguments)
        rows: Sequence[Row] = cursor.fetchall()
        return rows

    def fetch_all(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """Run queries, each with its arguments, and return the rows of each."""
        return [self.fetch(cursor, text, arguments) for text, arguments in texts]

    @abstractmethod
    def list_parameter(self, values: Values) -> Any:
        """A list as the driver takes it for `OneOf`."""

    def check(self, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """Raise InvalidArgument for what the database's columns cannot hold, as far as that can be told before."""
        check_int32(write, rows)

    @abstractmethod
    def write(self, cursor: Any, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """Write all rows."""

    def write_all(self, cursor: Any, writes: Sequence[tuple[Write, Sequence[Sequence[Any]]]]) -> None:
        """Write the rows of several writes, in their order."""
        for write, rows in writes:
            self.write(cursor, write, rows)

    def finish(self, cursor: Any, writes: Sequence[tuple[Write, Sequence[Sequence[Any]]]]) -> None:
        """The same, and commit."""
        self.write_all(cursor, writes)
        self.commit(cursor.connection)

    def ask_for_ids(
        self,
        counts: Mapping[str, int],  # noqa: ARG002 (an interface)
        *,
        requests: int,  # noqa: ARG002 (an interface)
    ) -> tuple[str, Sequence[Any]] | None:
        """A query for ids, with its arguments; None when it is better to insert the rows and see.

        Args:
            counts: table -> how many rows it gets.
            requests: how many share these; each would insert its own.
        """
        return None

    def ids_in(self, rows: Sequence[Row]) -> dict[str, Iterator[int]]:  # noqa: ARG002 (an interface)
        """The ids of each table that the query gave, ascending; nobody else gets them."""
        return {}

    @abstractmethod
    def create(self, running: Running, insert: Insert, rows: Sequence[Sequence[Any]]) -> Sequence[int]:
        """Insert rows into a table that gives each an id; returns the ids in the order of the rows, ascending."""

    # --- failures

    @abstractmethod
    def error(self, error: Exception, table: Table | None = None) -> MetadataError:
        """What a failure of the driver means to the caller; `table` is the one that was written."""

    @abstractmethod
    def is_lost(self, connection: Any) -> bool:
        """Whether nothing more can be done with a connection."""

    @abstractmethod
    def interrupt(self, connection: Any) -> None:
        """Stop the query that another thread runs on the connection."""


def taken(table: Table | None, fields: Sequence[str]) -> AlreadyExists:
    """The error for a unique key that is taken."""
    if table is None or not fields:
        return AlreadyExists("it is already there")
    if table.name == "Event":
        return AlreadyExists("an event of the same type between the same artifact and execution is already there")
    return AlreadyExists(f"{table.name}: another one with the same {' and '.join(fields)} is already there")


def hang_up(descriptor: int) -> None:
    """Break the connection of a socket: whoever waits for it waits no longer, and finds it lost."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def check_int32(write: Write, rows: Sequence[Sequence[Any]]) -> None:
    """Raise InvalidArgument for numbers that MLMD's tables cannot hold, except on SQLite."""
    for place, column in enumerate(write.parameters):
        if column not in ("int_value", "step_index"):
            continue
        for row in rows:
            number = row[place]
            if number is not None and not INT32_MIN <= number <= INT32_MAX:
                raise InvalidArgument(f"{number} does not fit into 32 bits, which is all that MLMD's tables have here")
