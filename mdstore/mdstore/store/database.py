"""One database: its engine and its connections, which are found again after the database was gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mdstore.errors import InvalidArgument, MetadataError, ResourceExhausted, Unavailable
from mdstore.store import change_log, schema, tables
from mdstore.store.dialects import POOL_SIZE, RETRY_MS, Dialect
from mdstore.store.dialects.sqlite import SQLite
from mdstore.store.transaction import Transaction, now_ms


class Database:
    """An open database of schema version 10. Threads: any may take connections."""

    def __init__(self, engine: Engine, dialect: Dialect) -> None:
        """Keep what `open_database` made."""
        self.engine = engine
        self.dialect = dialect
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A driver's connection from the pool, outside any transaction.

        Raises:
            Unavailable: the database is closed, or cannot be reached.
        """
        fairy = self._checked_out()
        try:
            yield fairy.driver_connection
        finally:
            if self.dialect.is_lost(fairy.driver_connection):
                fairy.invalidate()
            fairy.close()

    def _checked_out(self) -> Any:
        if self._closed:
            raise Unavailable("the store is closed")
        try:
            return self.engine.raw_connection()
        except DBAPIError as error:
            raise self._failure(error) from error
        except PoolTimeoutError as error:
            raise ResourceExhausted("all connections to the database are in use").retry_after(RETRY_MS) from error
        except self.dialect.errors as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> MetadataError:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        found = self.dialect.error(cause) if isinstance(cause, self.dialect.errors) else Unavailable(str(cause))
        return found.retry_after(RETRY_MS) if isinstance(found, Unavailable) else found

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A driver's connection inside a transaction whose statements all see one moment.

        Raises:
            Unavailable: the database is closed, or cannot be reached.
        """
        lost = 0
        while True:
            with self.connection() as connection:
                try:
                    self.dialect.begin_read(connection)
                except self.dialect.errors as error:
                    lost += 1
                    if self.dialect.is_lost(connection) and lost <= POOL_SIZE:
                        # It was lost while nobody used it: the next one may be younger, and at last one is made.
                        continue
                    raise self._failure(error) from error
                try:
                    yield connection
                finally:
                    self.end_read(connection)
                return

    def end_read(self, connection: Any) -> None:
        """End what `begin_read` of the dialect began; a lost connection has ended it already."""
        try:
            self.dialect.rollback(connection)
        except self.dialect.errors as error:
            if not self.dialect.is_lost(connection):
                raise self.dialect.error(error) from error

    def connect(self) -> Any:
        """A driver's connection of its own, which the caller closes.

        Raises:
            Unavailable: the database is closed, or cannot be reached.
        """
        fairy = self._checked_out()
        connection = fairy.driver_connection
        fairy.detach()
        return connection

    def close(self) -> None:
        """Close the connections; a database in memory is gone then."""
        # The pool would open again for whoever still asks.
        self._closed = True
        self.engine.dispose()
        self.dialect.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_database(url: str, *, must_exist: bool = False) -> Database:
    """Open the database at `url`, creating it and its tables when there is nothing.

    Args:
        url: as SQLAlchemy writes it; `sqlite:///FILE`, or `sqlite://` for one that is gone at the end,
            `postgresql://USER:PASSWORD@HOST/NAME`, `mysql://USER:PASSWORD@HOST/NAME`.
        must_exist: refuse what is not there, as who only reads should: a mistyped name would be an empty store.

    Raises:
        InvalidArgument: not a URL of a database that can be used.
        Unavailable: it cannot be reached or opened.
        FailedPrecondition, Aborted, DataLoss: as `schema.prepare`.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidArgument(f"{url!r} is no database URL: write {_URLS}") from error
    dialect = _dialect(parsed)
    shown = parsed.render_as_string()
    try:
        engine = dialect.engine(parsed, must_exist=must_exist)
    except NoSuchModuleError as error:
        raise InvalidArgument(f"{shown!r} names no driver that is installed: {error}") from error
    database = Database(engine, dialect)
    try:
        _prepare(database, must_exist=must_exist)
    except BaseException as error:
        database.close()
        if isinstance(error, (DBAPIError, *dialect.errors)):
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise Unavailable(f"cannot open the database {shown!r}: {cause}") from error
        raise
    return database


_URLS: Final = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME or mysql://USER:PASSWORD@HOST/NAME"


def _dialect(url: URL) -> Dialect:
    # A driver is imported only when it is needed, and only then must it be installed.
    match url.get_backend_name():
        case "sqlite":
            return SQLite()
        case "postgresql":
            try:
                from mdstore.store.dialects.postgresql import PostgreSQL  # noqa: PLC0415 (an extra)
            except ImportError as error:
                raise InvalidArgument(f"for PostgreSQL install mdstore[postgresql]: {error}") from error
            return PostgreSQL()
        case "mysql" | "mariadb":
            try:
                from mdstore.store.dialects.mysql import MySQL  # noqa: PLC0415 (an extra)
            except ImportError as error:
                raise InvalidArgument(f"for MySQL and MariaDB install mdstore[mysql]: {error}") from error
            return MySQL()
    raise InvalidArgument(f"{url.render_as_string()!r} is of no database that can be used: write {_URLS}")


def _connected(database: Database) -> Connection:
    try:
        return database.engine.connect()
    except DBAPIError as error:
        if error.orig is not None and database.dialect.create_database(database.engine, error.orig):
            return database.engine.connect()
        raise


def _prepare(database: Database, *, must_exist: bool) -> None:
    dialect = database.dialect
    with _connected(database) as connection:
        if must_exist and not inspect(connection).has_table(tables.HEAD.name):
            raise Unavailable(
                f"there is no store in the database {database.engine.url.render_as_string()!r}: "
                "start `mdstore serve` on it first, or name another"
            )
        dialect.begin_exclusive(connection)
        try:
            added = schema.prepare(connection)
            change_log.bootstrap(Transaction(connection.connection.driver_connection, dialect, now_ms), added)
        except BaseException:
            dialect.end_exclusive(connection, keep=False)
            raise
        dialect.end_exclusive(connection, keep=True)
