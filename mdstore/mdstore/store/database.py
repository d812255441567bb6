"""One database: its engine and its connections, which are found again after the database was gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mdstore.errors import InvalidArgument, MetadataError, ResourceExhausted, Unavailable
from mdstore.redaction import shown
from mdstore.store import bootstrapping, schema, tables
from mdstore.store.dialects import POOL_SIZE, RETRY_MS, Dialect
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


def open_database(url: str, *, must_exist: bool = False, create: bool = True) -> Database:
    """Open the database at `url`, creating it and its tables when there is nothing.

    Args:
        url: as SQLAlchemy writes it; `sqlite:///FILE`, or `sqlite://` for one that is gone at the end,
            `postgresql://USER:PASSWORD@HOST/NAME`, `mysql://USER:PASSWORD@HOST/NAME`.
        must_exist: refuse what is not there, as who only reads should: a mistyped name would be an empty store.
        create: make a database that a server does not have; tables are made in any case.

    Raises:
        InvalidArgument: not a URL of a database that can be used.
        Unavailable: it cannot be reached or opened.
        ResourceExhausted: there is no room to open it.
        FailedPrecondition, Aborted, DataLoss: as `schema.prepare`.
    """
    parts = parsed(url)
    dialect = dialect_of(parts)
    try:
        engine = dialect.engine(parts, must_exist=must_exist)
    except NoSuchModuleError as error:
        raise InvalidArgument(f"{shown(url)!r} names no driver that is installed: {error}") from error
    database = Database(engine, dialect)
    try:
        _prepare(database, must_exist=must_exist, create=create)
    except BaseException as error:
        database.close()
        if isinstance(error, (DBAPIError, *dialect.errors)):
            cause = error.orig if isinstance(error, DBAPIError) else error
            failure = dialect.error(cause) if isinstance(cause, dialect.errors) else None
            if isinstance(failure, ResourceExhausted):
                raise ResourceExhausted(f"cannot open the database {shown(url)!r}: {failure}") from error
            raise Unavailable(f"cannot open the database {shown(url)!r}: {cause}") from error
        raise
    return database


_FORMS: Final = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME or mysql://USER:PASSWORD@HOST/NAME"


def parsed(url: str) -> URL:
    """The parts of a database's URL.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: SQLAlchemy's own words quote all of it, the password too.
        raise InvalidArgument(f"{shown(url)!r} is no database URL: write {_FORMS}") from None
    if "@" in (found.host or ""):
        raise InvalidArgument(f"{shown(url)!r} has an @ before that of its host: in a password write %40 for @")
    return found


def dialect_of(url: URL) -> Dialect:
    """The dialect of the database that a URL names.

    Raises:
        InvalidArgument: there is none, or its driver is not installed.
    """
    # A driver is imported only when it is needed, and only then must it be installed.
    match url.get_backend_name():
        case "sqlite":
            from mdstore.store.dialects.sqlite import SQLite  # noqa: PLC0415 (2 MiB)

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
    raise InvalidArgument(f"{_shown(url)!r} is of no database that can be used: write {_FORMS}")


def _shown(url: URL) -> str:
    return shown(url.render_as_string(hide_password=False))


def connected(engine: Engine) -> Connection:
    """A connection to the database.

    Raises:
        InvalidArgument: the URL has a parameter that the driver does not take.
        DBAPIError: connecting failed.
    """
    try:
        return engine.connect()
    except DBAPIError:
        raise
    except (TypeError, ValueError, OSError) as error:
        # A parameter's name, its value, or a file of certificates that it names.
        raise InvalidArgument(f"{_shown(engine.url)!r} has a parameter that cannot be used: {error}") from error


def _connected(database: Database, *, create: bool) -> Connection:
    try:
        return connected(database.engine)
    except DBAPIError as error:
        if create and error.orig is not None and database.dialect.create_database(database.engine, error.orig):
            return connected(database.engine)
        raise


def _prepare(database: Database, *, must_exist: bool, create: bool) -> None:
    dialect = database.dialect
    with _connected(database, create=create and not must_exist) as connection:
        if must_exist and not inspect(connection).has_table(tables.HEAD.name):
            raise Unavailable(
                f"there is no store in the database {_shown(database.engine.url)!r}: "
                "start `mdstore serve` on it first, or name another"
            )
        dialect.begin_exclusive(connection)
        try:
            added = schema.prepare(connection, dialect)
            bootstrapping.begin(Transaction(connection.connection.driver_connection, dialect, now_ms), added)
            schema.finish(connection, dialect)
        except BaseException:
            dialect.end_exclusive(connection, keep=False)
            raise
        dialect.end_exclusive(connection, keep=True)
