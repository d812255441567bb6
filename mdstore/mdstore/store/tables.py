"""The database of ML Metadata, schema version 10, and the tables that mdstore adds to it.

Names, columns, their order and types, keys and indexes are the C++ library's, so that both can work on one database.
What is ours has the prefix `mdstore_`, or is an index whose name has it.
"""

from typing import Any, Final

from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeEngine, UserDefinedType

SCHEMA_VERSION: Final = 10

METADATA: Final = MetaData()


class Exactly(UserDefinedType[Any]):
    """A column type spelled as the library spells it: the spelling is what a schema dump shows."""

    cache_ok = True

    def __init__(self, sqlite: str, mysql: str, postgresql: str) -> None:
        """Take the spelling of each database."""
        self.sqlite = sqlite
        self.mysql = mysql
        self.postgresql = postgresql


@compiles(Exactly, "sqlite")
def _sqlite(type_: Exactly, _compiler: object, **_: object) -> str:
    return type_.sqlite


@compiles(Exactly, "mysql", "mariadb")
def _mysql(type_: Exactly, _compiler: object, **_: object) -> str:
    return type_.mysql


@compiles(Exactly, "postgresql")
def _postgresql(type_: Exactly, _compiler: object, **_: object) -> str:
    return type_.postgresql


def is_text(column: Any) -> bool:
    """Whether a column of ours holds texts."""
    return isinstance(column.type, Exactly) and column.type.postgresql.startswith(("VARCHAR", "TEXT"))


class LibrarysUnique(UniqueConstraint):
    """A unique key with the library's name, which it has on all databases but SQLite."""


@compiles(LibrarysUnique, "sqlite")
def _anonymous(constraint: LibrarysUnique, compiler: Any, **_: object) -> str:
    return f"UNIQUE ({', '.join(compiler.preparer.quote(column.name) for column in constraint.columns)})"


INT: Final = Exactly("INT", "INT", "INT")
TIME: Final = Exactly("INT", "BIGINT", "BIGINT")
NAME: Final = Exactly("VARCHAR(255)", "VARCHAR(255)", "VARCHAR(255)")
TEXT: Final = Exactly("TEXT", "TEXT", "TEXT")
LONG_TEXT: Final = Exactly("TEXT", "MEDIUMTEXT", "TEXT")
BYTES: Final = Exactly("BLOB", "MEDIUMBLOB", "BYTEA")
TYPE_KIND: Final = Exactly("TINYINT(1)", "TINYINT(1)", "SMALLINT")
FLAG: Final = Exactly("TINYINT(1)", "TINYINT(1)", "BOOLEAN")
BOOL: Final = Exactly("BOOLEAN", "TINYINT(1)", "BOOLEAN")
DOUBLE: Final = Exactly("DOUBLE", "DOUBLE", "DOUBLE PRECISION")


def _id() -> Column[int]:
    # Nullable, as the library declares it: SQLite's row id cannot be null anyway, and the dump says the same.
    return Column("id", Integer, primary_key=True, nullable=True)


def _col(name: str, type_: TypeEngine[Any], *, nullable: bool = True, unique: bool = False) -> Column[Any]:
    return Column(name, type_, nullable=nullable, unique=unique)


def _time(name: str) -> Column[Any]:
    return Column(name, TIME, nullable=False, server_default=text("0"))


TYPE: Final = Table(
    "Type",
    METADATA,
    _id(),
    _col("name", NAME, nullable=False),
    _col("version", NAME),
    _col("type_kind", TYPE_KIND, nullable=False),
    _col("description", TEXT),
    _col("input_type", TEXT),
    _col("output_type", TEXT),
    _col("external_id", NAME, unique=True),
    Index("idx_type_name", "name"),
    Index("idx_type_external_id", "external_id"),
    sqlite_autoincrement=True,
)

TYPE_PROPERTY: Final = Table(
    "TypeProperty",
    METADATA,
    _col("type_id", INT, nullable=False),
    _col("name", NAME, nullable=False),
    _col("data_type", INT),
    PrimaryKeyConstraint("type_id", "name"),
)

PARENT_TYPE: Final = Table(
    "ParentType",
    METADATA,
    _col("type_id", INT, nullable=False),
    _col("parent_type_id", INT, nullable=False),
    PrimaryKeyConstraint("type_id", "parent_type_id"),
)

ARTIFACT: Final = Table(
    "Artifact",
    METADATA,
    _id(),
    _col("type_id", INT, nullable=False),
    _col("uri", TEXT),
    _col("state", INT),
    _col("name", NAME),
    _col("external_id", NAME, unique=True),
    _time("create_time_since_epoch"),
    _time("last_update_time_since_epoch"),
    LibrarysUnique("type_id", "name", name="UniqueArtifactTypeName"),
    Index("idx_artifact_uri", "uri", mysql_length=255),
    Index("idx_artifact_create_time_since_epoch", "create_time_since_epoch"),
    Index("idx_artifact_last_update_time_since_epoch", "last_update_time_since_epoch"),
    Index("idx_artifact_external_id", "external_id"),
    sqlite_autoincrement=True,
)

EXECUTION: Final = Table(
    "Execution",
    METADATA,
    _id(),
    _col("type_id", INT, nullable=False),
    _col("last_known_state", INT),
    _col("name", NAME),
    _col("external_id", NAME, unique=True),
    _time("create_time_since_epoch"),
    _time("last_update_time_since_epoch"),
    LibrarysUnique("type_id", "name", name="UniqueExecutionTypeName"),
    Index("idx_execution_create_time_since_epoch", "create_time_since_epoch"),
    Index("idx_execution_last_update_time_since_epoch", "last_update_time_since_epoch"),
    Index("idx_execution_external_id", "external_id"),
    sqlite_autoincrement=True,
)

CONTEXT: Final = Table(
    "Context",
    METADATA,
    _id(),
    _col("type_id", INT, nullable=False),
    _col("name", NAME, nullable=False),
    _col("external_id", NAME, unique=True),
    _time("create_time_since_epoch"),
    _time("last_update_time_since_epoch"),
    UniqueConstraint("type_id", "name"),
    Index("idx_context_create_time_since_epoch", "create_time_since_epoch"),
    Index("idx_context_last_update_time_since_epoch", "last_update_time_since_epoch"),
    Index("idx_context_external_id", "external_id"),
    sqlite_autoincrement=True,
)


def _property_table(node: str) -> Table:
    owner = f"{node.lower()}_id"
    indexes = [
        Index(
            f"idx_{node.lower()}_property_{kind}",
            "name",
            "is_custom_property",
            f"{kind}_value",
            sqlite_where=text(f"{kind}_value IS NOT NULL"),
            mysql_length={"string_value": 255} if kind == "string" else None,
        )
        for kind in ("int", "double", "string")
    ]
    return Table(
        f"{node}Property",
        METADATA,
        _col(owner, INT, nullable=False),
        _col("name", NAME, nullable=False),
        _col("is_custom_property", FLAG, nullable=False),
        _col("int_value", INT),
        _col("double_value", DOUBLE),
        _col("string_value", LONG_TEXT),
        _col("byte_value", BYTES),
        _col("proto_value", BYTES),
        _col("bool_value", BOOL),
        PrimaryKeyConstraint(owner, "name", "is_custom_property"),
        *indexes,
    )


ARTIFACT_PROPERTY: Final = _property_table("Artifact")
EXECUTION_PROPERTY: Final = _property_table("Execution")
CONTEXT_PROPERTY: Final = _property_table("Context")

PARENT_CONTEXT: Final = Table(
    "ParentContext",
    METADATA,
    _col("context_id", INT, nullable=False),
    _col("parent_context_id", INT, nullable=False),
    PrimaryKeyConstraint("context_id", "parent_context_id"),
    Index("idx_parentcontext_parent_context_id", "parent_context_id"),
)

EVENT: Final = Table(
    "Event",
    METADATA,
    _id(),
    _col("artifact_id", INT, nullable=False),
    _col("execution_id", INT, nullable=False),
    _col("type", INT, nullable=False),
    _col("milliseconds_since_epoch", TIME),
    LibrarysUnique("artifact_id", "execution_id", "type", name="UniqueEvent"),
    Index("idx_event_execution_id", "execution_id"),
    sqlite_autoincrement=True,
)

EVENT_PATH: Final = Table(
    "EventPath",
    METADATA,
    _col("event_id", INT, nullable=False),
    _col("is_index_step", FLAG, nullable=False),
    _col("step_index", INT),
    _col("step_key", TEXT),
    Index("idx_eventpath_event_id", "event_id"),
)

ASSOCIATION: Final = Table(
    "Association",
    METADATA,
    _id(),
    _col("context_id", INT, nullable=False),
    _col("execution_id", INT, nullable=False),
    UniqueConstraint("context_id", "execution_id"),
    sqlite_autoincrement=True,
)

ATTRIBUTION: Final = Table(
    "Attribution",
    METADATA,
    _id(),
    _col("context_id", INT, nullable=False),
    _col("artifact_id", INT, nullable=False),
    UniqueConstraint("context_id", "artifact_id"),
    sqlite_autoincrement=True,
)

MLMD_ENV: Final = Table(
    "MLMDEnv", METADATA, Column("schema_version", Integer, primary_key=True, nullable=True, autoincrement=False)
)

MLMD_TABLES: Final = tuple(METADATA.tables.values())

# What MLMD's schema lacks. Without these, every page of a context and every artifact's contexts is a scan.
MISSING_INDEXES: Final = (
    Index("mdstore_association_execution", ASSOCIATION.c.execution_id),
    Index("mdstore_attribution_artifact", ATTRIBUTION.c.artifact_id),
    Index("mdstore_artifact_type_created", ARTIFACT.c.type_id, ARTIFACT.c.create_time_since_epoch),
)

_OURS = MetaData()


def _key(characters: int) -> Exactly:
    """Texts that are compared and ordered by their code points, whatever the database is set to."""
    return Exactly("TEXT", f"VARBINARY({4 * characters})", 'TEXT COLLATE "C"')


def _ours(name: str, *parts: Any, **options: Any) -> Table:
    # Whatever the database's character set is, which MLMD's tables take.
    return Table(name, _OURS, *parts, mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin", **options)


def as_text(stored: str | bytes) -> str:
    """The text in a column that orders by code points: MySQL knows it as bytes."""
    return stored if isinstance(stored, str) else stored.decode()


HEAD: Final = _ours(
    "mdstore_head",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store_id", Exactly("TEXT", "VARCHAR(64)", "TEXT"), nullable=False),
    Column("format", Integer, nullable=False),
    Column("seq", Exactly("INTEGER", "BIGINT", "BIGINT"), nullable=False),
    Column("hash", Exactly("BLOB", "BINARY(32)", "BYTEA"), nullable=False),
)
"""One row: which store this is, and the newest commit. Whoever commits locks it, so the log has one order."""

COMMIT: Final = _ours(
    "mdstore_commit",
    Column("seq", Exactly("INTEGER", "BIGINT", "BIGINT"), primary_key=True, autoincrement=False),
    Column("time_ms", TIME, nullable=False),
    Column("origin", NAME, nullable=False),
    Column("actor", NAME, nullable=False),
    Column("hash", Exactly("BLOB", "BINARY(32)", "BYTEA"), nullable=False),
    Column("payload", Exactly("BLOB", "LONGBLOB", "BYTEA"), nullable=False),
)

CHANGE: Final = _ours(
    "mdstore_change",
    Column("kind", INT, nullable=False),
    Column("id", TIME, nullable=False),
    Column("seq", Exactly("INTEGER", "BIGINT", "BIGINT"), nullable=False),
    PrimaryKeyConstraint("kind", "id", "seq"),
    sqlite_with_rowid=False,
)
"""Which commits changed what. `kind` is MLMD's number for nodes; see also `TYPES` and `PARENTS` in change_log.py."""

DOCUMENT: Final = _ours(
    "mdstore_document",
    Column("collection", _key(255), nullable=False),
    Column("key", _key(500), nullable=False),
    Column("value", Exactly("BLOB", "LONGBLOB", "BYTEA"), nullable=False),
    Column("time_ms", TIME, nullable=False),
    PrimaryKeyConstraint("collection", "key"),
)

TOMBSTONE: Final = _ours(
    "mdstore_tombstone",
    Column("kind", INT, nullable=False),
    Column("id", TIME, nullable=False),
    Column("seq", Exactly("INTEGER", "BIGINT", "BIGINT"), nullable=False),
    Column("deletion", Exactly("BLOB", "LONGBLOB", "BYTEA"), nullable=False),
    PrimaryKeyConstraint("kind", "id"),
    sqlite_with_rowid=False,
)
"""Nodes that were deleted, each with its `mdstore.v1.Deletion`."""

HOLD: Final = _ours(
    "mdstore_hold",
    Column("kind", INT, nullable=False),
    Column("id", TIME, nullable=False),
    Column("name", _key(255), nullable=False),
    Column("time_ms", TIME, nullable=False),
    Column("actor", TEXT, nullable=False),
    Column("reason", TEXT, nullable=False),
    PrimaryKeyConstraint("kind", "id", "name"),
    sqlite_with_rowid=False,
)
"""Nodes that must not be deleted."""

REQUEST: Final = _ours(
    "mdstore_request",
    Column("key", _key(300), nullable=False),
    Column("digest", Exactly("BLOB", "BINARY(32)", "BYTEA"), nullable=False),
    Column("attempt", INT, nullable=False),
    Column("response", Exactly("BLOB", "LONGBLOB", "BYTEA"), nullable=False),
    Column("until_ms", TIME, nullable=False),
    PrimaryKeyConstraint("key"),
    Index("mdstore_request_until", "until_ms"),
)
"""Answers of writes that may be asked for again; each is kept until a time."""

MARK: Final = _ours(
    "mdstore_mark",
    Column("one", Integer, primary_key=True, autoincrement=False),
    *(
        Column(name, Exactly("INTEGER", "BIGINT", "BIGINT"), nullable=False)
        for name in (
            *("seq", "type", "artifact", "execution", "context", "event", "attribution", "association", "parents"),
            *("artifact_ms", "execution_ms", "context_ms"),
        )
    ),
)
"""One row: up to which ids, update times and numbers of rows everything in MLMD's tables is in the log."""

BOOTSTRAP: Final = _ours(
    "mdstore_bootstrap",
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("part", Integer, nullable=False),
    *(
        Column(name, Exactly("INTEGER", "BIGINT", "BIGINT"), nullable=False)
        for name in ("after_id", "after_too", "seq")
    ),
)
"""At most one row: how far the log has what was there before it, and the position where it had all; 0 before."""

COMPACTION: Final = _ours(
    "mdstore_compaction",
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("compaction", Exactly("BLOB", "LONGBLOB", "BYTEA"), nullable=False),
)
"""At most one row: the newest `mdstore.v1.Compaction`."""

OUR_TABLES: Final = tuple(_OURS.tables.values())

MAKING: Final = Table("mdstore_making", MetaData(), Column("one", Integer, primary_key=True, autoincrement=False))
"""Is there while tables are made, where that cannot be undone: what is missing then is still to be made."""
