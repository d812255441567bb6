"""PostgreSQL through psycopg 3.

Many rows go in one statement of constant text, as arrays that are unnested, so that every write is prepared once and is
one round trip whatever its size. The writer locks the head's row first: several servers on one database have one order.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus, PipelineStatus
from psycopg.types.numeric import Int8Dumper
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL

from mdstore.errors import (
    Aborted,
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    MetadataError,
    ResourceExhausted,
    Unavailable,
)
from mdstore.store import tables
from mdstore.store.dialects import (
    CONNECT_S,
    MOST_MORE,
    POOL_SIZE,
    RETRY_MS,
    STOP_S,
    VANISHED_S,
    Dialect,
    Row,
    Running,
    hang_up,
    taken,
)
from mdstore.store.dialects.filters_postgresql import PostgreSQLFilters
from mdstore.store.dialects.postgresql_pipeline import one_message
from mdstore.store.lower_case import LowerCase
from mdstore.store.sql import Conflict, Delete, Insert, Update, Values, Write, quote, sqlalchemy_dialect

_LOCK: Final = 0x6D6473746F7265
"""The advisory lock of who makes or checks the schema: "mdstore"."""
# A writer that waits longer, or hangs itself, must not keep the other servers from writing.
# What it asks is about keys, whichever: to plan that anew for each list of them took half of the server's time.
_WRITER: Final = (
    "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'; "
    "SET plan_cache_mode = force_generic_plan"
)
_BEGIN_WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_BEGIN_READ: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # Which plan is right for a list, and above all for a filter, depends on what is looked for: one in a hundred of a
    # million took 27 ms by the plan for whatever value, and takes 1.5.
    "SET LOCAL plan_cache_mode = force_custom_plan",
)
_LOCK_HEAD: Final = "SELECT seq, hash, store_id FROM mdstore_head FOR UPDATE"
_SEQUENCES: Final = {
    table.name: f"SELECT pg_get_serial_sequence('{table.name.lower()}', 'id')::regclass AS numbers OFFSET 0"
    for table in (tables.ARTIFACT, tables.EXECUTION, tables.CONTEXT, tables.EVENT)
}
"""Table -> which sequence its ids come from, looked for once and not for each number."""
_NEXT_IDS: Final = " UNION ALL ".join(
    f"SELECT {place}, nextval(numbers) FROM ({sequence}) AS found, generate_series(1, %s)"  # noqa: S608 (names)
    for place, sequence in enumerate(_SEQUENCES.values())
)
_VANISHED: Final = {
    "keepalives_idle": VANISHED_S // 2,
    "keepalives_interval": VANISHED_S // 6,
    "keepalives_count": 3,
    "tcp_user_timeout": VANISHED_S * 1000,
}
"""libpq's parameters for `VANISHED_S`."""
_TABLES: Final = {table.name.lower(): table for table in (*tables.MLMD_TABLES, *tables.OUR_TABLES)}


class PostgreSQL(Dialect):
    """The dialect of a database of a PostgreSQL server."""

    name = "postgresql"
    reads_inline = False
    waits_by_function = True
    errors = (psycopg.Error,)
    filters = PostgreSQLFilters()

    def engine(self, url: URL, *, must_exist: bool) -> Engine:  # noqa: ARG002 (an interface)
        """The engine of the database that the URL names."""
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={
                "autocommit": True,
                "connect_timeout": CONNECT_S,
                "application_name": "mdstore",
                **{name: value for name, value in _VANISHED.items() if name not in url.query},
            },
            pool_size=POOL_SIZE,
            max_overflow=MOST_MORE,
            pool_reset_on_return=None,
            # Else each connection begins with a look for a type that MLMD has no use for.
            use_native_hstore=False,
        )
        engine.dialect.identifier_preparer = LowerCase(engine.dialect)
        event.listen(engine, "connect", _set_up)
        return engine

    def create_database(self, engine: Engine, error: Exception) -> bool:
        """Create it from the server's database `postgres`, as the library does."""
        name = engine.url.database
        if name is None or f'database "{name}" does not exist' not in str(error):
            return False
        (_, parameters) = engine.dialect.create_connect_args(engine.url.set(database="postgres"))
        with (
            psycopg.connect(**parameters, autocommit=True, connect_timeout=CONNECT_S) as connection,
            # Somebody else may be faster.
            suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation),
        ):
            connection.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8'").format(sql.Identifier(name)))
        return True

    def begin_exclusive(self, connection: Connection) -> None:
        """Take an advisory lock."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")

    def end_exclusive(self, connection: Connection, *, keep: bool) -> None:
        """Commit or roll back, tables included."""
        connection.exec_driver_sql("COMMIT" if keep else "ROLLBACK")

    def begin_write(self, connection: Any) -> Row | None:
        """Lock the head: what is committed before that is seen by every statement after it."""
        (row, _) = self.begin_write_and_ask(connection, ())
        return row

    def begin_write_and_ask(
        self, connection: Any, texts: Sequence[tuple[str, Sequence[Any]]]
    ) -> tuple[Row | None, list[Sequence[Row]] | Exception]:
        """All in one message."""
        if not getattr(connection, "mdstore_writes", False):
            connection.execute(_WRITER, prepare=False)
            connection.mdstore_writes = True
        locked = connection.cursor()
        found: list[Sequence[Row]] | Exception
        try:
            with one_message(connection):
                connection.execute(_BEGIN_WRITE, prepare=False)
                locked.execute(_LOCK_HEAD)
                cursors = [connection.execute(text, arguments) for text, arguments in texts]
            found = [_rows(cursor) for cursor in cursors]
        except psycopg.Error as error:
            # Whichever statement failed; where the head was locked, it was none of those that begin.
            if self.is_lost(connection) or locked.pgresult is None or locked.pgresult.status != ExecStatus.TUPLES_OK:
                raise
            found = error
        row: Row | None = locked.fetchone()
        if row is None:
            raise psycopg.DataError("mdstore_head has no row")
        return row, found

    def plan_for_values(self, connection: Any) -> None:
        """As everybody else's are, until the transaction ends."""
        connection.execute("SET LOCAL plan_cache_mode = auto", prepare=False)

    def rollback(self, connection: Any) -> None:
        """By the driver's own way, which then prepares anew what it may think is prepared and is not."""
        connection.rollback()

    def begin_read(self, connection: Any) -> None:
        """Begin; the first question fixes the moment."""
        for text in _BEGIN_READ:
            connection.execute(text, prepare=False)

    def begin_read_and_ask(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """All in one message."""
        connection = cursor.connection
        with one_message(connection):
            self.begin_read(connection)
            cursors = [connection.execute(text, arguments) for text, arguments in texts]
        return [_rows(cursor) for cursor in cursors]

    def ask_once(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """One message is a transaction of its own, which sees one moment as `_set_up` wants it."""
        try:
            return self.fetch_all(cursor, texts) if len(texts) > 1 else [self.fetch(cursor, *texts[0])]
        except psycopg.Error:
            # The driver may think of statements as prepared that PostgreSQL did not come to.
            cursor.connection.close()
            raise

    def ask_and_end(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """All in one message."""
        connection = cursor.connection
        with one_message(connection):
            cursors = [connection.execute(text, arguments) for text, arguments in texts]
            connection.execute("COMMIT", prepare=False)
        return [_rows(cursor) for cursor in cursors]

    def savepoint(self, connection: Any, *, first: bool) -> None:
        """Set the savepoint; without the release, PostgreSQL would keep the older ones too."""
        text = "SAVEPOINT operation" if first else "RELEASE SAVEPOINT operation; SAVEPOINT operation"
        connection.execute(text, prepare=False)

    def fetch(self, cursor: Any, text: str, arguments: Sequence[Any]) -> Sequence[Row]:
        """Run a query and return all its rows."""
        cursor.execute(text, arguments)
        return _rows(cursor)

    def fetch_all(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """All in one message."""
        with one_message(cursor.connection):
            cursors = [cursor.connection.execute(text, arguments) for text, arguments in texts]
        return [_rows(cursor) for cursor in cursors]

    def list_parameter(self, values: Values) -> Any:
        """A list; what no text of PostgreSQL can be is not in it."""
        if any(isinstance(item, str) and "\0" in item for item in values):
            return [item for item in values if "\0" not in item]
        return list(values)

    def write(self, cursor: Any, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """One statement; an update of unique columns is one for each row, since there their order counts."""
        if len(rows) == 1:
            cursor.execute(_single(write), rows[0])
        elif isinstance(write, Update) and _touches_unique(write, rows):
            cursor.executemany(_single(write), rows)
        else:
            cursor.execute(_bulk(write), [list(column) for column in zip(*rows, strict=True)])

    def write_all(self, cursor: Any, writes: Sequence[tuple[Write, Sequence[Sequence[Any]]]]) -> None:
        """All in one message."""
        connection = cursor.connection
        with one_message(connection):
            for write, rows in writes:
                self.write(connection.cursor(), write, rows)

    def finish(self, cursor: Any, writes: Sequence[tuple[Write, Sequence[Sequence[Any]]]]) -> None:
        """All in one message: behind a statement that fails, PostgreSQL does none of the others, nor commits."""
        connection = cursor.connection
        with one_message(connection):
            for write, rows in writes:
                self.write(connection.cursor(), write, rows)
            done = connection.execute("COMMIT", prepare=False)
        if done.statusmessage != "COMMIT":
            raise psycopg.errors.InFailedSqlTransaction("the transaction had failed before its end")

    def ask_for_ids(
        self,
        counts: Mapping[str, int],
        *,
        requests: int,  # noqa: ARG002 (an interface)
    ) -> tuple[str, Sequence[Any]] | None:
        """The next numbers of the tables' sequences."""
        if not counts.keys() <= _SEQUENCES.keys():
            return None
        return _NEXT_IDS, [counts.get(name, 0) for name in _SEQUENCES]

    def ids_in(self, rows: Sequence[Row]) -> dict[str, Iterator[int]]:
        """A sequence gives a number once."""
        found: dict[str, list[int]] = {}
        names = list(_SEQUENCES)
        for place, number in rows:
            if number is not None:
                found.setdefault(names[place], []).append(number)
        return {name: iter(sorted(numbers)) for name, numbers in found.items()}

    def create(self, running: Running, insert: Insert, rows: Sequence[Sequence[Any]]) -> Sequence[int]:
        """One statement; the ids come from the table's sequence in the order of the rows."""
        if len(rows) == 1:
            running.cursor.execute(f"{_single(insert)} RETURNING id", rows[0])
        else:
            running.cursor.execute(_creating(insert), [list(column) for column in zip(*rows, strict=True)])
        return sorted(row[0] for row in running.cursor.fetchall())

    def error(self, error: Exception, table: Table | None = None) -> MetadataError:
        """By PostgreSQL's codes of errors."""
        assert isinstance(error, psycopg.Error)
        message = error.diag.message_primary or str(error)
        match error.sqlstate:
            case "23505":
                known = _TABLES.get(error.diag.table_name or "") if table is None else table
                # `Key (type_id, name)=(10, n) already exists.`
                fields = (error.diag.message_detail or "").partition("(")[2].partition(")")[0]
                return taken(known, fields.split(", ") if fields else [])
            case "40001" | "40P01" | "55P03":
                return Aborted(f"the database is busy: {message}; try again")
            case "57014":
                return Cancelled("the query was stopped: its caller is gone, or it took too long")
            case "53100" | "53200":
                return ResourceExhausted(f"the database server is full: {message}")
            case "25006" | "42501":
                return FailedPrecondition(f"the database cannot be written: {message}")
            case "22001" | "22003" | "22021" | "22P05" | "54000":
                return InvalidArgument(f"the database cannot hold a value: {message}")
            case "57P01" | "57P02" | "57P03" | "53300" | "25P03":
                return Unavailable(f"the database is not there: {message}").retry_after(RETRY_MS)
            case str() as code if code.startswith("08"):
                return Unavailable(f"the database is not there: {message}").retry_after(RETRY_MS)
            case None if isinstance(error, psycopg.DataError):
                return InvalidArgument(f"the database cannot hold a value: {message}")
            case None if isinstance(error, psycopg.OperationalError):
                return Unavailable(f"the database is not there: {message}").retry_after(RETRY_MS)
        return Internal(f"the database failed: {message}")

    def wait_by(self, connection: Any, wait: Callable[[int, int], int], *, most_rows: int) -> bool:
        """All waits of the driver are in one method."""
        descriptor = connection.pgconn.socket

        def waited(waiting: Generator[int, int, Any], **_: float) -> Any:
            try:
                wanted = next(waiting)
                while True:
                    wanted = waiting.send(wait(descriptor, wanted))
            except StopIteration as over:
                return over.value

        connection.wait = waited
        connection.mdstore_most_rows = most_rows
        return True

    def is_lost(self, connection: Any) -> bool:
        """Whether the connection is closed, from whichever side, or was cut off within a pipeline that never ends."""
        return bool(connection.closed) or connection.info.pipeline_status is not PipelineStatus.OFF

    def interrupt(self, connection: Any) -> None:
        """Ask the server to stop the query; hang up on one that does not hear."""
        try:
            connection.cancel_safe(timeout=STOP_S)
        except psycopg.Error:
            with suppress(psycopg.Error, OSError):  # closed already
                hang_up(connection.fileno())


def _set_up(connection: Any, _record: object) -> None:
    # One type for all integers: the statements of small and large numbers are then the same prepared one.
    connection.adapters.register_dumper(int, Int8Dumper)
    # Joins of this many tables, which only filters have, would be planned for seconds.
    connection.execute("SET geqo_threshold = 8")
    # A page ends after a few rows, when its workers have just been started and have read far too many: 5 ms instead of
    # 100 for a filter that meets one node in a hundred of a million.
    connection.execute("SET max_parallel_workers_per_gather = 0")
    connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.prepare_threshold = 1
    connection.prepared_max = 400


def _rows(cursor: Any) -> Sequence[Row]:
    most = getattr(cursor.connection, "mdstore_most_rows", None)
    if most is not None and cursor.rowcount > most:
        raise Cancelled(f"it has {cursor.rowcount} rows, more than the {most} that are read in between")
    rows: Sequence[Row] = cursor.fetchall()
    return rows


def _touches_unique(write: Update, rows: Sequence[Sequence[Any]]) -> bool:
    places = [place for place, name in enumerate(write.columns) if name in ("name", "external_id")]
    return any(row[place] is not None for row in rows for place in places)


def _names(columns: Sequence[str]) -> list[str]:
    return [quote("postgresql", name) for name in columns]


def _array_types(table: Table, columns: Sequence[str]) -> list[str]:
    found = (table.c[name].type.compile(dialect=sqlalchemy_dialect("postgresql")) for name in columns)
    return ["TEXT" if text.startswith(("VARCHAR", "TEXT")) else text for text in found]


def _unnested(write: Write) -> str:
    return ", ".join(f"%s::{text}[]" for text in _array_types(write.table, write.parameters))


def _on_conflict(insert: Insert) -> str:
    match insert.conflict:
        case Conflict.FAIL:
            return ""
        case Conflict.KEEP:
            return " ON CONFLICT DO NOTHING"
        case Conflict.REPLACE:
            changed = ", ".join(f"{name} = excluded.{name}" for name in _names(insert.replaced))
            return f" ON CONFLICT ({', '.join(_names(insert.key))}) DO UPDATE SET {changed}"


# Texts are made of names of our tables; every value is a parameter.
@cache
def _single(write: Write) -> str:
    table = quote("postgresql", write.table.name)
    each = [f"{name} = %s" for name in _names(write.parameters)]
    match write:
        case Insert():
            places = ", ".join(["%s"] * len(write.columns))
            names = ", ".join(_names(write.columns))
            return f"INSERT INTO {table} ({names}) VALUES ({places}){_on_conflict(write)}"  # noqa: S608
        case Update():
            count = len(write.columns)
            return f"UPDATE {table} SET {', '.join(each[:count])} WHERE {' AND '.join(each[count:])}"  # noqa: S608
        case Delete():
            return f"DELETE FROM {table} WHERE {' AND '.join(each)}"  # noqa: S608


@cache
def _bulk(write: Write) -> str:
    table = quote("postgresql", write.table.name)
    names = ", ".join(_names(write.parameters))
    match write:
        case Insert():
            rows = f"SELECT * FROM unnest({_unnested(write)})"  # noqa: S608
            return f"INSERT INTO {table} ({names}) {rows}{_on_conflict(write)}"
        case Update():
            changed = ", ".join(f"{name} = given.{name}" for name in _names(write.columns))
            return (
                f"UPDATE {table} AS stored SET {changed} FROM unnest({_unnested(write)}) AS given({names}) "  # noqa: S608
                f"WHERE {_same_key(write.key)}"
            )
        case Delete():
            rows = f"unnest({_unnested(write)}) AS given({names})"
            return f"DELETE FROM {table} AS stored USING {rows} WHERE {_same_key(write.key)}"  # noqa: S608


def _same_key(key: Sequence[str]) -> str:
    return " AND ".join(f"stored.{name} = given.{name}" for name in _names(key))


@cache
def _creating(insert: Insert) -> str:
    names = ", ".join(_names(insert.columns))
    return (
        f"INSERT INTO {quote('postgresql', insert.table.name)} ({names}) "  # noqa: S608
        # Ordered, for the sequence gives its numbers in the order in which the rows come.
        f"SELECT {names} FROM unnest({_unnested(insert)}) WITH ORDINALITY AS given({names}, place) ORDER BY place "
        "RETURNING id"
    )
