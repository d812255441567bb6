"""One database: its engine, its connections, and what each connection is set to.

SQLite runs with a write-ahead log and full durability: a commit that was acknowledged survives a power cut, and since
the writer commits for many requests at once that costs little.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from mdstore.errors import InvalidArgument, Unavailable
from mdstore.store import change_log, schema
from mdstore.store.transaction import Transaction, now_ms

BUSY_TIMEOUT_S: Final = 5.0


class Database:
    """An open database of schema version 10. Threads: any may take connections."""

    def __init__(self, engine: Engine, temporary: tempfile.TemporaryDirectory[str] | None) -> None:
        """Keep what `open_database` made."""
        self.engine = engine
        self.dialect = engine.dialect.name
        self._temporary = temporary
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A driver's connection from the pool.

        Raises:
            Unavailable: the database is closed.
        """
        if self._closed:
            raise Unavailable("the store is closed")
        fairy = self.engine.raw_connection()
        try:
            yield fairy.driver_connection
        finally:
            fairy.close()

    def connect(self) -> Any:
        """A driver's connection of its own, which the caller closes."""
        fairy = self.engine.raw_connection()
        connection = fairy.driver_connection
        fairy.detach()
        return connection

    def close(self) -> None:
        """Close the connections; a database in memory is gone then."""
        # The pool would open again for whoever still asks.
        self._closed = True
        self.engine.dispose()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_database(url: str, *, must_exist: bool = False) -> Database:
    """Open the database at `url`, creating it and its tables when there is nothing.

    Args:
        url: as SQLAlchemy writes it; `sqlite:///FILE`, or `sqlite://` for one that is gone at the end.
        must_exist: refuse a file that is not there, as who only reads should: a mistyped name would be an empty store.

    Raises:
        InvalidArgument: not a URL of a database that can be used.
        Unavailable: it cannot be reached or opened.
        FailedPrecondition, Aborted, DataLoss: as `schema.prepare`.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidArgument(f"{url!r} is no database URL: write sqlite:///FILE") from error
    if parsed.get_backend_name() != "sqlite":
        raise InvalidArgument(
            f"{parsed.render_as_string()!r}: only SQLite can be used in this version; write sqlite:///FILE"
        )
    temporary = None
    if not parsed.database or parsed.database == ":memory:":
        # A file that only we know, and not ":memory:", which every connection would have for itself.
        temporary = tempfile.TemporaryDirectory(prefix="mdstore-", ignore_cleanup_errors=True)
        parsed = parsed.set(database=str(Path(temporary.name) / "metadata.db"))
    elif must_exist and not Path(parsed.database).exists():
        raise Unavailable(f"there is no database {url!r}: start `mdstore serve` on it first, or name another")
    try:
        engine = create_engine(
            parsed,
            connect_args={"isolation_level": None, "cached_statements": 512, "timeout": BUSY_TIMEOUT_S},
            pool_size=8,
            max_overflow=-1,
        )
    except NoSuchModuleError as error:
        raise InvalidArgument(f"{url!r} names no driver that is installed: {error}") from error
    event.listen(engine, "connect", _set_up)
    database = Database(engine, temporary)
    try:
        _prepare(engine)
    except BaseException as error:
        database.close()
        if isinstance(error, sqlite3.Error | DBAPIError):
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise Unavailable(f"cannot open the database {url!r}: {cause}") from error
        raise
    return database


def _set_up(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA cache_size=-65536")


def _prepare(engine: Engine) -> None:
    with engine.connect() as connection:
        # IMMEDIATE: of two that open an empty database at once, the second waits and finds the tables.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            added = schema.prepare(connection)
            change_log.bootstrap(
                Transaction(connection.connection.driver_connection, engine.dialect.name, now_ms), added
            )
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
