"""The graph's file: its tables, and how it is opened.

The file is a projection, so it needs no migrations: a graph of an older format is made anew and projected again.
`PRAGMA application_id` says that a file is a lineage graph, `PRAGMA user_version` which format it has.

No `ANALYZE`, ever: with statistics, SQLite from 3.38 on puts a Bloom filter before small joins, which reads the whole
edge table for a walk of three nodes. Without them every join order here is fixed by CROSS JOIN.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mdstore.errors import (
    DataLoss,
    FailedPrecondition,
    Internal,
    MetadataError,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)

APPLICATION_ID: Final = 0x6D644C47  # "mdLG"
FORMAT: Final = 4

BUSY_S: Final = 5.0
"""How long a writer waits for another one; readers wait for nobody."""
RETRY_S: Final = 0.005

TABLES: Final = (
    """
    CREATE TABLE checkpoint (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        store_id TEXT,            -- which store was projected; NULL while the graph is empty
        position INTEGER NOT NULL, -- the last commit applied
        hash BLOB NOT NULL,        -- of that commit
        until INTEGER NOT NULL     -- the graph is being rebuilt until it is at this position; 0 when it never was
    )""",
    "INSERT INTO checkpoint VALUES (1, NULL, 0, x'', 0)",
    """
    CREATE TABLE type (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,  -- artifact, execution or context
        name TEXT NOT NULL
    )""",
    """
    CREATE TABLE node (
        key INTEGER PRIMARY KEY,  -- see keys.py
        type_id INTEGER NOT NULL,
        since INTEGER NOT NULL,   -- the commit with which it came; so in all tables
        hands_on INTEGER NOT NULL,  -- of an execution: whether it outputs what others made, as of the position
        makers INTEGER NOT NULL     -- of an artifact: how many output events it has from executions that do not
    )""",
    # Clustered by target, because lineage is asked for upstream most of the time, and because the edges inside an
    # answer are found by their targets: an execution has few inputs and an artifact one producer, while a popular
    # artifact has any number of consumers.
    """
    CREATE TABLE edge (
        target INTEGER NOT NULL,
        source INTEGER NOT NULL,
        type INTEGER NOT NULL,   -- of the event
        name TEXT,
        at_ms INTEGER NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (target, source, type)
    ) WITHOUT ROWID""",
    "CREATE INDEX edge_by_source ON edge (source, target)",
    # Makers are counted where the rows change, so that no order of commits and states can miss one. An odd key is an
    # execution's: its edges lead to what it output.
    """
    CREATE TRIGGER output_came AFTER INSERT ON edge WHEN NEW.source & 1 BEGIN
        UPDATE node SET makers = makers + 1
        WHERE key = NEW.target AND NOT (SELECT hands_on FROM node WHERE key = NEW.source);
    END""",
    """
    CREATE TRIGGER output_went AFTER DELETE ON edge WHEN OLD.source & 1 BEGIN
        UPDATE node SET makers = makers - 1
        WHERE key = OLD.target AND NOT (SELECT hands_on FROM node WHERE key = OLD.source);
    END""",
    """
    CREATE TRIGGER execution_changed AFTER UPDATE OF hands_on ON node BEGIN
        UPDATE node SET makers = makers + (OLD.hands_on - NEW.hands_on) * (
            SELECT count(*) FROM edge WHERE edge.source = NEW.key AND edge.target = node.key
        )
        WHERE key IN (SELECT target FROM edge WHERE source = NEW.key);
    END""",
    """
    CREATE TABLE context (
        id INTEGER PRIMARY KEY,
        type_id INTEGER NOT NULL,
        since INTEGER NOT NULL
    )""",
    """
    CREATE TABLE member (
        node INTEGER NOT NULL,
        context INTEGER NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (node, context)
    ) WITHOUT ROWID""",
    "CREATE INDEX member_by_context ON member (context)",
    """
    CREATE TABLE parent (
        child INTEGER NOT NULL,
        parent INTEGER NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (child, parent)
    ) WITHOUT ROWID""",
    "CREATE INDEX parent_by_parent ON parent (parent)",
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the graph in `path`, which is made when there is none. Any thread may use it, one at a time.

    Raises:
        Unavailable: the file or its folder cannot be opened.
        PermissionDenied: it cannot be written to.
        FailedPrecondition: it is no lineage graph, or one of a newer format.
    """
    if not path.parent.is_dir():
        raise Unavailable(f"the lineage graph {path} cannot be opened: there is no folder {path.parent}")
    if path.is_dir():
        raise Unavailable(f"the lineage graph {path} cannot be opened: it is a folder; name a file")
    # SQLite would say "unable to open database file" for all of these, and "readonly" only at the first write.
    needed = (path, os.R_OK | os.W_OK) if path.exists() else (path.parent, os.W_OK | os.X_OK)
    if not os.access(*needed):
        raise PermissionDenied(f"the lineage graph {path} cannot be written to; give the file and its folder this user")
    with translated(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare_when_free(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare_when_free(connection: sqlite3.Connection, path: Path) -> None:
    """Prepare, and wait for others who are just making the file: to change it to WAL, SQLite does not wait itself."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            _prepare(connection, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_S)
        else:
            return


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # A power cut may take the last commits, never consistency, and what is lost is projected again.
    connection.execute("PRAGMA synchronous=NORMAL")
    if not _is_made(connection, path):
        connection.execute("PRAGMA journal_mode=WAL")
        with writing(connection):
            if not _is_made(connection, path):  # another process may have been first
                until = _drop_older(connection)
                for statement in TABLES:
                    connection.execute(statement)
                connection.execute("UPDATE checkpoint SET until = ?", (until,))
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={FORMAT}")
    # Pages come from the machine's cache, which all processes that read the graph share.
    connection.execute("PRAGMA mmap_size=1073741824")


def _is_made(connection: sqlite3.Connection, path: Path) -> bool:
    application, version, entries = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), "
        "(SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if application == 0 and version == 0 and entries == 0:
        return False
    if application != APPLICATION_ID:
        raise FailedPrecondition(f"{path} is a database, but no lineage graph; name another file")
    if version > FORMAT:
        raise FailedPrecondition(
            f"the lineage graph {path} has format {version} and this mdstore knows {FORMAT} at most: use the newer "
            "mdstore, or another file, into which the store is projected again"
        )
    return bool(version == FORMAT)


def _drop_older(connection: sqlite3.Connection) -> int:
    """Take away what an older format has left behind; the position that it had."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    # Every format keeps its position there.
    until: int = connection.execute("SELECT position FROM checkpoint").fetchone()[0] if tables else 0
    for table in tables:
        connection.execute(f'DROP TABLE "{table}"')
    return until


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: kept when the block ends, dropped when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite may have ended it by itself, as on a full disk
            connection.execute("ROLLBACK")
        raise


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """One read transaction: all questions inside see the graph at the same position."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors, raised inside, into the tree of `mdstore.errors`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _error(path, error) from error


def _error(path: Path, error: sqlite3.Error) -> MetadataError:
    # The low byte is the code; the bytes above it are particulars.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_IOERR:
            return Unavailable(f"the lineage graph {path} cannot be used now: {error}")
        case sqlite3.SQLITE_FULL:
            return ResourceExhausted(f"the lineage graph {path} cannot grow: {error}")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return PermissionDenied(f"the lineage graph {path} cannot be written to: {error}")
        case sqlite3.SQLITE_NOTADB:
            return FailedPrecondition(f"{path} is no lineage graph; name another file")
        case sqlite3.SQLITE_CORRUPT:
            return DataLoss(
                f"the lineage graph {path} is damaged: remove it, and the store is projected again: {error}"
            )
        case _:
            return Internal(f"the lineage graph {path} failed: {error}")
