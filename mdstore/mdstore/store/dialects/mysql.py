"""MySQL and MariaDB through PyMySQL.

The driver writes values into the text of a statement itself, so many rows are one statement. Ids are the database's: it
gives the first one of a statement, and the others follow.

The C++ library sends UTF-8 and tells the server that it is latin1. Where a database's tables are latin1 the bytes stay
as they are; where they are utf8mb4, every character beyond ASCII is stored as two or more. To share a database, the
same is done here, unless the URL says `?charset=utf8mb4`: then texts are what they seem, for us and for other tools.
"""

import codecs
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from typing import Any, Final

import pymysql
from pymysql.constants import CLIENT
from pymysql.converters import escape_string
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
from mdstore.store.dialects.filters_mysql import MySQLFilters
from mdstore.store.dialects.mysql_rows import Connection as RowsConnection
from mdstore.store.sql import Conflict, Delete, Insert, Update, Values, Write, encoded_messages, quote

STATEMENT_BYTES: Final = 1024 * 1024
"""Rows are sent in statements of about this size."""
KEYS: Final = 500
"""Rows that one statement deletes or updates: MySQL's optimizer counts the conditions."""

RESERVED_MOST: Final = 5000
"""For more rows, reserving their ids costs more than it saves, which is a message for each request and table."""
_BLANK: Final = {
    "Artifact": ("type_id", "(0)"),
    "Execution": ("type_id", "(0)"),
    # Of the same two nodes there can be one event only. No node has an id below zero.
    "Event": ("artifact_id, execution_id, type", "({},0,0)"),
}
"""Table -> columns and values of a row that breaks no key."""

# Everything else about a text is as the server was told; rows that are not UTF-8 must not hide the others.
_LENIENT: Final = "mdstore_utf8"
codecs.register(
    lambda name: (
        codecs.CodecInfo(codecs.utf_8_encode, lambda data, _errors="": codecs.utf_8_decode(data, "replace", True))
        if name == _LENIENT
        else None
    )
)

_VANISHED: Final = {
    "TCP_KEEPIDLE": VANISHED_S // 2,
    "TCP_KEEPINTVL": VANISHED_S // 6,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": VANISHED_S * 1000,
}
"""Options of a socket for `VANISHED_S`, where the system has them."""

# What is sent is UTF-8. Where the server reads it as characters that may end with the byte of a backslash, as in GBK,
# escaping a quote would not keep it inside of its text.
_CHARSETS: Final = ("latin1", "utf8mb4", "utf8mb3", "utf8")

_BEGIN_READ: Final = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
_LOCK_HEAD: Final = "SELECT seq, hash, store_id FROM mdstore_head FOR UPDATE"

_BUSY: Final = frozenset((1020, 1205, 1213))
_STOPPED: Final = frozenset((1317, 1969, 3024))
_TOO_LARGE: Final = frozenset((1264, 1300, 1366, 1406, 1690))
_FULL: Final = frozenset((1021, 1041, 1114, 1153))
_REFUSED: Final = frozenset((1044, 1045, 1142, 1290, 1792, 1836))
_GONE: Final = frozenset(
    (1040, 1053, 1152, 1158, 1159, 1160, 1161, 1203, 1226, 1927, 2002, 2003, 2006, 2013, 2055, 4031)
)
_NO_DATABASE: Final = 1049
_DUPLICATE: Final = 1062


class MySQL(Dialect):
    """The dialect of a database of a MySQL or MariaDB server."""

    name = "mysql"
    reads_inline = False
    waits_by_function = True
    undoes_tables = False
    errors = (pymysql.err.Error,)
    filters = MySQLFilters()

    def __init__(self) -> None:
        """No database yet."""
        self._arguments: Mapping[str, Any] = {}

    def engine(self, url: URL, *, must_exist: bool) -> Engine:  # noqa: ARG002 (an interface)
        """The engine of the database that the URL names; latin1 unless it says otherwise."""
        if "charset" not in url.query:
            url = url.update_query_dict({"charset": "latin1"})
        elif url.query["charset"] not in _CHARSETS:
            raise InvalidArgument(f"charset={url.query['charset']} cannot be used: write {' or '.join(_CHARSETS)}")
        engine = create_engine(
            url.set(drivername="mysql+pymysql"),
            connect_args={
                "autocommit": True,
                "connect_timeout": CONNECT_S,
                "client_flag": CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
            },
            pool_size=POOL_SIZE,
            max_overflow=MOST_MORE,
            pool_reset_on_return=None,
        )
        (_, self._arguments) = engine.dialect.create_connect_args(engine.url)
        event.listen(engine, "do_connect", _connect)
        event.listen(engine, "connect", _set_up)
        return engine

    def create_database(self, engine: Engine, error: Exception) -> bool:
        """Create it, with the server's character set, as the library does."""
        if not error.args or error.args[0] != _NO_DATABASE or not engine.url.database:
            return False
        arguments = {name: value for name, value in self._arguments.items() if name != "database"}
        with pymysql.connect(**arguments, connect_timeout=CONNECT_S) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {quote('mysql', engine.url.database)}")
        return True

    def begin_exclusive(self, connection: Connection) -> None:
        """Take a lock of the server's; what MySQL does to tables cannot be undone, so only one may begin."""
        ((got,),) = connection.exec_driver_sql("SELECT GET_LOCK(CONCAT('mdstore:', MD5(DATABASE())), 60)")
        if got != 1:
            raise Aborted("somebody else has been opening this database for a minute; try again")
        connection.exec_driver_sql("SET autocommit = 0")

    def end_exclusive(self, connection: Connection, *, keep: bool) -> None:
        """Commit or roll back, but for tables that were made."""
        connection.exec_driver_sql("COMMIT" if keep else "ROLLBACK")
        connection.exec_driver_sql("SET autocommit = 1")
        connection.exec_driver_sql("DO RELEASE_LOCK(CONCAT('mdstore:', MD5(DATABASE())))")

    def begin_write(self, connection: Any) -> Row | None:
        """Lock the head, which begins the transaction; what is committed before that is seen after it."""
        return self._lock_head(connection, _LOCK_HEAD)[0]

    def begin_write_and_ask(
        self, connection: Any, texts: Sequence[tuple[str, Sequence[Any]]]
    ) -> tuple[Row | None, list[Sequence[Row]] | Exception]:
        """All in one message."""
        cursor = connection.cursor()
        try:
            asked = ";".join([_LOCK_HEAD, *(cursor.mogrify(text, arguments) for text, arguments in texts)])
        except pymysql.err.Error:
            return super().begin_write_and_ask(connection, texts)
        if _too_long(cursor, asked) is not None:
            return super().begin_write_and_ask(connection, texts)
        row, cursor = self._lock_head(connection, asked)
        try:
            return row, _results(cursor) if cursor.nextset() else []
        except pymysql.err.Error as error:
            return row, error

    def _lock_head(self, connection: Any, asked: str) -> tuple[Row, Any]:
        """The first row of the first query, and the cursor."""
        if connection.get_autocommit():
            connection.autocommit(False)
        cursor = connection.cursor()
        cursor.execute(asked)
        row: Row | None = cursor.fetchone()
        if row is None:
            raise pymysql.err.DataError(0, "mdstore_head has no row")
        return row, cursor

    def begin_read(self, connection: Any) -> None:
        """Begin at this moment."""
        connection.cursor().execute(_BEGIN_READ)

    def begin_read_and_ask(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """All in one message."""
        asked = ";".join([_BEGIN_READ, *(cursor.mogrify(text, arguments) for text, arguments in texts)])
        if _too_long(cursor, asked) is not None:
            return super().begin_read_and_ask(cursor, texts)
        cursor.execute(asked)
        return _results(cursor)

    def ask_once(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """All in one message, with the end."""
        asked = ";".join([_BEGIN_READ, *(cursor.mogrify(text, arguments) for text, arguments in texts), "COMMIT"])
        if len(texts) == 1 or _too_long(cursor, asked) is not None:
            return super().ask_once(cursor, texts)
        try:
            cursor.execute(asked)
            return _results(cursor)
        except pymysql.err.Error:
            with suppress(pymysql.err.Error):
                self.rollback(cursor.connection)
            raise

    def ask_and_end(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """All in one message."""
        asked = ";".join([*(cursor.mogrify(text, arguments) for text, arguments in texts), "COMMIT"])
        if _too_long(cursor, asked) is not None:
            return super().ask_and_end(cursor, texts)
        cursor.execute(asked)
        return _results(cursor)

    def savepoint(self, connection: Any, *, first: bool) -> None:  # noqa: ARG002 (an interface)
        """Set the savepoint; one of the same name is gone then."""
        connection.cursor().execute("SAVEPOINT operation")

    def list_parameter(self, values: Values) -> Any:
        """A list, which the driver writes with its parentheses; what MLMD's texts cannot be is not in it."""
        return tuple(item for item in values if not (isinstance(item, str) and "\0" in item)) or (None,)

    def write(self, cursor: Any, write: Write, rows: Sequence[Sequence[Any]]) -> None:
        """One statement for all rows, or a few; an update of unique columns is one for each, as their order counts."""
        for text in _texts(cursor, write, rows):
            _execute(cursor, text)

    def write_all(self, cursor: Any, writes: Sequence[tuple[Write, Sequence[Sequence[Any]]]]) -> None:
        """Statements behind each other in one message; behind one that fails, none is done."""
        _execute_all(cursor, (text for write, rows in writes for text in _texts(cursor, write, rows)))

    def finish(self, cursor: Any, writes: Sequence[tuple[Write, Sequence[Sequence[Any]]]]) -> None:
        """The same, with the commit at the end."""
        _execute_all(
            cursor, chain((text for write, rows in writes for text in _texts(cursor, write, rows)), ["COMMIT"])
        )

    def fetch(self, cursor: Any, text: str, arguments: Sequence[Any]) -> Sequence[Row]:
        """Run a query, whose values become part of its text.

        Raises:
            InvalidArgument: the text is longer than the server takes.
        """
        asked = cursor.mogrify(text, arguments)
        if (size := _too_long(cursor, asked)) is not None:
            raise InvalidArgument(f"a question of {size} bytes is too long for the database, see max_allowed_packet")
        cursor.execute(asked)
        rows: Sequence[Row] = cursor.fetchall()
        # The connection would keep them until it is used again.
        cursor.connection._result.rows = None
        return rows

    def fetch_all(self, cursor: Any, texts: Sequence[tuple[str, Sequence[Any]]]) -> list[Sequence[Row]]:
        """All in one message."""
        asked = ";".join(cursor.mogrify(text, arguments) for text, arguments in texts)
        if _too_long(cursor, asked) is not None:
            return super().fetch_all(cursor, texts)
        cursor.execute(asked)
        return _results(cursor)

    def ask_for_ids(self, counts: Mapping[str, int], *, requests: int) -> tuple[str, Sequence[Any]] | None:
        """Insert rows and take them back: InnoDB gives their ids to nobody else."""
        wanted = {name: count for name, count in counts.items() if count and name in _BLANK}
        if requests == 1 or not 0 < sum(wanted.values()) <= RESERVED_MOST:
            return None
        texts = ["SAVEPOINT ids"]
        for name, count in wanted.items():
            columns, row = _BLANK[name]
            rows = ",".join(row.format(-number) for number in range(1, count + 1))
            texts += [f"INSERT INTO {name} ({columns}) VALUES {rows}", f"SET @{name} = LAST_INSERT_ID()"]  # noqa: S608
        texts.append("ROLLBACK TO SAVEPOINT ids")
        found = (f"SELECT '{name}', @{name}, {count}, @@auto_increment_increment" for name, count in wanted.items())
        return ";".join([*texts, " UNION ALL ".join(found)]), ()

    def ids_in(self, rows: Sequence[Row]) -> dict[str, Iterator[int]]:
        """As in `create`, one statement's ids follow each other."""
        return {str(name): iter(range(first, first + count * step, step)) for name, first, count, step in rows}

    def create(self, running: Running, insert: Insert, rows: Sequence[Sequence[Any]]) -> Sequence[int]:
        """The ids of one statement follow each other: InnoDB takes them at once, since their number is known."""
        cursor = running.cursor
        head, tail = _insert(insert)
        ids: list[int] = []
        for part in _parts(_literals(cursor, rows)):
            _execute(cursor, f"{head}{','.join(part)}{tail}")
            step = cursor.connection.mdstore_increment
            ids += range(cursor.lastrowid, cursor.lastrowid + len(part) * step, step)
        return ids

    def error(self, error: Exception, table: Table | None = None) -> MetadataError:
        """By MySQL's numbers of errors."""
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        message = str(error.args[-1]) if error.args else str(error)
        if number == _DUPLICATE:
            return taken(table, _fields(table, message))
        if number in _BUSY:
            return Aborted(f"the database is busy: {message}; try again")
        if number in _STOPPED:
            return Cancelled("the query was stopped: its caller is gone, or it took too long")
        if number in _TOO_LARGE or "can not be used with MySQL" in message:
            return InvalidArgument(f"the database cannot hold a value: {message}")
        if number in _FULL:
            return ResourceExhausted(f"the database server is full, or a value too large for it: {message}")
        if number in _REFUSED:
            return FailedPrecondition(f"the database cannot be written: {message}")
        if number in _GONE or isinstance(error, pymysql.err.InterfaceError):
            return Unavailable(f"the database is not there: {message}").retry_after(RETRY_MS)
        return Internal(f"the database failed: {message}")

    def wait_by(self, connection: Any, wait: Callable[[int, int], int], *, most_rows: int) -> bool:
        """Where no TLS is between."""
        return bool(connection.wait_by(wait, most_rows))

    def is_lost(self, connection: Any) -> bool:
        """Whether the connection is closed, from whichever side."""
        return not connection.open

    def interrupt(self, connection: Any) -> None:
        """Kill the query from another connection; hang up on a server that gives none."""
        limits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), STOP_S)
        try:
            killer = pymysql.connect(**{**self._arguments, **limits})
            with killer, killer.cursor() as cursor:
                cursor.execute("KILL QUERY %s", (connection.thread_id(),))
        except pymysql.err.Error:
            with suppress(AttributeError, OSError):  # closed already
                hang_up(connection._sock.fileno())


def _connect(_dialect: object, _record: object, arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
    # The driver would wait for ever for the greeting of a server that takes the connection and says nothing.
    connection: Any = RowsConnection(*arguments, **{"read_timeout": CONNECT_S, **named})
    connection._read_timeout = named.get("read_timeout")
    return connection


def _set_up(connection: Any, _record: object) -> None:
    # What the server, or the library, thinks of as latin1 is UTF-8 all the same.
    connection.encoding = _LENIENT
    if connection._sock.family != socket.AF_UNIX:
        for name, number in _VANISHED.items():
            if hasattr(socket, name):
                connection._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), number)
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # What the statements mean must not depend on how a server is set up.
        cursor.execute("SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'")
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 10")
        # By default it tries all orders of up to 62 tables, which for the 40 of a filter does not end.
        cursor.execute("SET SESSION optimizer_search_depth = 4")
        cursor.execute("SELECT @@auto_increment_increment, @@max_allowed_packet")
        connection.mdstore_increment, connection.mdstore_most_bytes = cursor.fetchone()


def _results(cursor: Any) -> list[Sequence[Row]]:
    """The rows of this query and of those behind it."""
    found: list[Sequence[Row]] = []
    while True:
        if cursor.description is not None:
            found.append(cursor.fetchall())
        if not cursor.nextset():
            return found


def _texts(cursor: Any, write: Write, rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The statements of a write, with their values."""
    rows = encoded_messages(write, rows)
    match write:
        case Insert():
            head, tail = _insert(write)
            for values in _parts(_literals(cursor, rows)):
                yield f"{head}{','.join(values)}{tail}"
        case Update() if len(rows) == 1 or _touches_unique(write, rows):
            for row in rows:
                yield cursor.mogrify(_single(write), row)
        case Update():
            yield from _update_many(cursor, write, rows)
        case Delete():
            for start in range(0, len(rows), KEYS):
                part = rows[start : start + KEYS]
                each = " OR ".join([_condition(write.key)] * len(part))
                text = f"DELETE FROM {quote('mysql', write.table.name)} WHERE {each}"  # noqa: S608 (names)
                yield cursor.mogrify(text, [value for row in part for value in row])


def _execute_all(cursor: Any, texts: Iterable[str]) -> None:
    for part in _parts(iter(texts)):
        _execute(cursor, ";".join(part))
        # The failure of a statement is told where its result would be.
        while cursor.nextset():
            pass


def _execute(cursor: Any, text: str) -> None:
    """Run a statement that holds its values."""
    if (size := _too_long(cursor, text)) is not None:
        raise pymysql.err.OperationalError(1153, f"a statement has {size} bytes, see max_allowed_packet")
    cursor.execute(text)


def _too_long(cursor: Any, text: str) -> int | None:
    """The bytes of a statement that has more than the server takes, on which it would only hang up."""
    most = cursor.connection.mdstore_most_bytes - 1024
    # A character has four at most.
    if len(text) * 4 <= most:
        return None
    size = len(text.encode(errors="surrogatepass"))
    return size if size > most else None


def _literals(cursor: Any, rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Each row as SQL has it; the driver's own way to write a value looks for its kind anew each time."""
    escape: Callable[[Any], str] = cursor.connection.escape

    def literal(value: Any) -> str:
        kind = type(value)
        if value is None:
            return "NULL"
        if kind is int:
            return str(value)
        return f"'{escape_string(value)}'" if kind is str else escape(value)

    return (f"({','.join(map(literal, row))})" for row in rows)


def _parts(rows: Iterator[str]) -> Iterator[list[str]]:
    """The rows in parts of bounded size."""
    part: list[str] = []
    size = 0
    for row in rows:
        if part and size + len(row) > STATEMENT_BYTES:
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row)
    if part:
        yield part


def _touches_unique(write: Update, rows: Sequence[Sequence[Any]]) -> bool:
    places = [place for place, name in enumerate(write.columns) if name in ("name", "external_id")]
    return any(row[place] is not None for row in rows for place in places)


def _fields(table: Table | None, message: str) -> Sequence[str]:
    """The columns of the key in `Duplicate entry '10-n' for key 'Artifact.UniqueArtifactTypeName'`."""
    if table is None:
        return ()
    key = message.rstrip("'").rpartition("'")[2].rpartition(".")[2]
    if "external" in key.lower():
        return ("external_id",)
    if key == "PRIMARY":
        return [column.name for column in table.primary_key]
    unique = [
        [column.name for column in constraint.columns]  # type: ignore[attr-defined]  # of a UniqueConstraint
        for constraint in table.constraints
        if type(constraint).__name__.endswith(("Unique", "UniqueConstraint"))
    ]
    return next((names for names in unique if names != ["external_id"]), ())


# Texts are made of names of our tables; every value is written by the driver.
@cache
def _insert(write: Insert) -> tuple[str, str]:
    names = ", ".join(quote("mysql", name) for name in write.columns)
    head = f"INSERT INTO {quote('mysql', write.table.name)} ({names}) VALUES "  # noqa: S608
    match write.conflict:
        case Conflict.FAIL:
            return head, ""
        case Conflict.KEEP:
            # Not IGNORE, which takes other mistakes for warnings too.
            first = quote("mysql", write.columns[0])
            return head, f" ON DUPLICATE KEY UPDATE {first} = {first}"
        case Conflict.REPLACE:
            replaced = (quote("mysql", name) for name in write.replaced)
            return head, " ON DUPLICATE KEY UPDATE " + ", ".join(f"{name} = VALUES({name})" for name in replaced)


@cache
def _condition(key: Sequence[str]) -> str:
    return "(" + " AND ".join(f"{quote('mysql', name)} = %s" for name in key) + ")"


@cache
def _single(write: Update) -> str:
    changed = ", ".join(f"{quote('mysql', name)} = %s" for name in write.columns)
    return f"UPDATE {quote('mysql', write.table.name)} SET {changed} WHERE {_condition(write.key)}"  # noqa: S608


def _update_many(cursor: Any, write: Update, rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    names = [quote("mysql", name) for name in write.parameters]
    table = quote("mysql", write.table.name)
    changed = ", ".join(f"stored.{name} = given.{name}" for name in names[: len(write.columns)])
    same = " AND ".join(f"stored.{name} = given.{name}" for name in names[len(write.columns) :])
    first = f"SELECT {', '.join(f'%s AS {name}' for name in names)}"
    other = f" UNION ALL SELECT {', '.join(['%s'] * len(names))}"
    for start in range(0, len(rows), KEYS):
        part = rows[start : start + KEYS]
        given = first + other * (len(part) - 1)
        text = f"UPDATE {table} AS stored JOIN ({given}) AS given ON {same} SET {changed}"  # noqa: S608
        yield cursor.mogrify(text, [value for row in part for value in row])
