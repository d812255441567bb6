"""Upgrading a database of an older MLMD schema (0 to 9) to version 10.

Every table is made anew as version 10 has it, filled from the old one, and takes its place: the result is the same as a
fresh database, whatever version it came from. An upgrade that is interrupted has changed nothing, or has only to be
run again; see rebuilding.py for how.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, inspect, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from mdstore.errors import DataLoss, FailedPrecondition, InvalidArgument, Unavailable
from mdstore.redaction import shown
from mdstore.store import tables
from mdstore.store.database import connected, dialect_of, parsed
from mdstore.store.dialects import Dialect
from mdstore.store.rebuilding import MySQLRebuilding, PostgreSQLRebuilding, Rebuilding, SQLiteRebuilding

NEWS: Final = {
    1: "the table MLMDEnv, which holds the version",
    2: "Type.is_artifact_type becomes Type.type_kind",
    3: "contexts",
    4: "associations and attributions",
    5: "names, states and times of artifacts and executions (times of what is there become 0)",
    6: "parent types, parent contexts, versions and descriptions of types; indexes",
    7: "byte values",
    8: "one event of a type between two nodes: of duplicates the newest stays; property indexes",
    9: "external ids",
    10: "proto and boolean values",
}
"""What each version brought."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade will do."""

    from_version: int
    rows: dict[str, int]
    """Table -> rows that will be copied."""
    duplicate_events: int
    """Events that go because a newer one of the same type joins the same nodes."""

    @property
    def steps(self) -> list[str]:
        """The versions to go through, and what each brings."""
        return [f"{version}: {NEWS[version]}" for version in range(self.from_version + 1, tables.SCHEMA_VERSION + 1)]


def plan_upgrade(url: str) -> Upgrade | None:
    """What an upgrade of the database at `url` would do; None when it has version 10 already.

    Raises:
        InvalidArgument: not a database's URL.
        Unavailable: it is not there, or cannot be opened.
        FailedPrecondition: it holds no MLMD tables, or those of a newer version.
        DataLoss: MLMDEnv does not have one row.
    """
    with _opened(url) as (connection, rebuilding, _):
        return _plan(connection, rebuilding)


def upgrade(url: str, on_table: Callable[[str], None] = lambda _: None) -> Upgrade | None:
    """Upgrade the database at `url`; returns what was done, or None when it had version 10 already.

    Args:
        url: of the database; nobody else should use it meanwhile.
        on_table: called with the name of each table once it is done.

    Raises:
        Aborted: somebody else uses the database.
        As `plan_upgrade`.
    """
    with _opened(url) as (connection, rebuilding, dialect):
        dialect.begin_exclusive(connection)
        try:
            # What is found is only what is there if nothing of an earlier attempt is in the way.
            rebuilding.tidy()
            found = _plan(connection, rebuilding)
            if found is not None:
                rebuilding.rebuild(found.rows, on_table)
        except BaseException:
            with suppress(DBAPIError):
                dialect.end_exclusive(connection, keep=False)
            raise
        dialect.end_exclusive(connection, keep=True)
        return found


@contextmanager
def _opened(url: str) -> Iterator[tuple[Connection, Rebuilding, Dialect]]:
    parts = parsed(url)
    dialect = dialect_of(parts)
    try:
        engine = _engine(parts, dialect)
    except NoSuchModuleError as error:
        raise InvalidArgument(f"{shown(url)!r} names no driver that is installed: {error}") from error
    failures: tuple[type[Exception], ...] = (DBAPIError, *dialect.errors)
    try:
        try:
            opened = connected(engine)
        except failures as error:
            raise Unavailable(f"cannot open the database {shown(url)!r}: {_cause(error)}") from error
        with opened as connection:
            yield connection, _REBUILDING[dialect.name](connection), dialect
    except failures as error:
        failure = dialect.error(_cause(error))
        raise type(failure)(f"cannot upgrade the database {shown(url)!r}: {failure}") from error
    finally:
        engine.dispose()


def _engine(url: URL, dialect: Dialect) -> Engine:
    if dialect.name != "sqlite":
        return dialect.engine(url, must_exist=True)
    # Not the dialect's, whose connections begin with changing how the file is written.
    engine = create_engine(url, connect_args={"isolation_level": None})
    if not url.database or not Path(url.database).exists():
        raise Unavailable(f"there is no database {str(url)!r}")
    return engine


def _cause(error: BaseException) -> Exception:
    cause = error.orig if isinstance(error, DBAPIError) else error
    assert isinstance(cause, Exception)
    return cause


def _plan(connection: Connection, rebuilding: Rebuilding) -> Upgrade | None:
    lowered = {name.lower() for name in inspect(connection).get_table_names()}
    present = [table.name for table in tables.MLMD_TABLES if table.name.lower() in lowered]
    version = _version(connection, rebuilding, present)
    if version == tables.SCHEMA_VERSION:
        return None
    if version > tables.SCHEMA_VERSION:
        raise FailedPrecondition(f"the database has MLMD's schema version {version}: use a newer mdstore")
    quote = connection.dialect.identifier_preparer.quote
    counted = {
        name: _count(connection, f"SELECT count(*) FROM {quote(name)}")  # noqa: S608 (names of MLMD's schema)
        for name in sorted(present)
    }
    duplicates = counted[tables.EVENT.name] - _count(
        connection, "SELECT count(*) FROM (SELECT DISTINCT artifact_id, execution_id, type FROM Event) AS kept"
    )
    return Upgrade(version, counted, duplicates)


def _count(connection: Connection, query: str) -> int:
    return int(connection.exec_driver_sql(query).scalar_one())


def _version(connection: Connection, rebuilding: Rebuilding, present: Collection[str]) -> int:
    if tables.MLMD_ENV.name in present:
        versions = connection.execute(select(tables.MLMD_ENV.c.schema_version)).scalars().all()
        if len(versions) != 1:
            raise DataLoss(f"MLMDEnv has {len(versions)} rows instead of one")
        version = int(versions[0])
    elif tables.TYPE.name in present and "is_artifact_type" in rebuilding.columns(tables.TYPE.name):
        version = 0
    else:
        raise FailedPrecondition("the database holds no tables of MLMD that could be upgraded")
    missing = sorted(table.name for table in _FIRST if table.name not in present)
    if missing:
        raise FailedPrecondition(f"the database has schema version {version}, but not the tables {', '.join(missing)}")
    return version


_FIRST: Final = (tables.TYPE, tables.ARTIFACT, tables.EXECUTION, tables.EVENT, tables.EVENT_PATH)
"""Tables that every version has."""

_REBUILDING: Final[Mapping[str, Callable[[Connection], Rebuilding]]] = {
    "sqlite": SQLiteRebuilding,
    "postgresql": PostgreSQLRebuilding,
    "mysql": MySQLRebuilding,
}
