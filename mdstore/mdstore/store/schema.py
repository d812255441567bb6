"""Opening a database: what is there, is it ours to use, and making what is missing."""

import hashlib
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Index, Table, insert, inspect, select
from sqlalchemy.exc import SAWarning
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from mdstore.errors import Aborted, DataLoss, FailedPrecondition
from mdstore.store import kinds, tables
from mdstore.store.dialects import Dialect
from mdstore.wire import changes

log = structlog.get_logger()

FORMAT: Final = 1
"""Of our own tables."""


def prepare(connection: Connection, dialect: Dialect) -> changes.Changes:
    """Check the database and create what is missing, inside the caller's transaction; `finish` belongs at its end.

    Where making tables cannot be undone, a table says that it has begun, until `finish`: who comes after one that was
    killed goes on where it ended.

    Returns:
        The system types that were missing.

    Raises:
        FailedPrecondition: the schema is older or newer than version 10, or our tables are of a newer format.
        Aborted: some of MLMD's tables are missing, as while somebody else creates them.
        DataLoss: MLMDEnv has more than one row.
    """
    names = {name.lower(): name for name in inspect(connection).get_table_names()}
    making = _Making(connection, dialect, names)
    wanted = [table for table in tables.MLMD_TABLES if table.name.lower() not in names]
    if making.was_begun or len(wanted) == len(tables.MLMD_TABLES):
        making.create(tables.MLMD_TABLES)
        if not connection.execute(select(tables.MLMD_ENV.c.schema_version)).all():
            connection.execute(insert(tables.MLMD_ENV).values(schema_version=tables.SCHEMA_VERSION))
        wanted = []
    _check_version(connection, missing=[table.name for table in wanted])
    added = _upsert_system_types(connection, may_have_lost_ids=making.was_begun)
    is_new = making.was_begun or tables.HEAD.name not in names
    if tables.HEAD.name in names and not making.was_begun:
        _check_format(connection)
    # Also those that a newer version of this program has brought.
    making.create(tables.OUR_TABLES)
    making.create_indexes(tables.MISSING_INDEXES)
    if is_new and not connection.execute(select(tables.HEAD.c.id)).all():
        connection.execute(
            insert(tables.HEAD).values(
                id=1, store_id=str(uuid.uuid4()), format=FORMAT, seq=0, hash=hashlib.sha256(b"").digest()
            )
        )
    return added


def finish(connection: Connection, dialect: Dialect) -> None:
    """Commit where tables that were made cannot be undone, and say that nothing is missing any more."""
    if not dialect.undoes_tables and inspect(connection).has_table(tables.MAKING.name):
        connection.exec_driver_sql("COMMIT")
        connection.execute(DropTable(tables.MAKING))


class _Making:
    """Makes what is missing of tables and their indexes."""

    def __init__(self, connection: Connection, dialect: Dialect, names: Mapping[str, str]) -> None:
        """Take the tables that are there, lower-case name -> name."""
        self._connection = connection
        self._names = names
        self.was_begun = tables.MAKING.name in names
        """Somebody was killed before all was made."""
        self._is_noted = self.was_begun or dialect.undoes_tables

    def create(self, wanted: Sequence[Table]) -> None:
        for table in wanted:
            is_there = table.name.lower() in self._names
            if not is_there:
                self._note()
                self._connection.execute(CreateTable(table))
            if not is_there or self.was_begun:
                indexes = [index for index in table.indexes if index not in tables.MISSING_INDEXES]
                self.create_indexes(sorted(indexes, key=lambda index: str(index.name)))

    def create_indexes(self, wanted: Sequence[Index]) -> None:
        found: dict[str, set[str | None]] = {}
        for index in wanted:
            assert index.table is not None
            name = index.table.name.lower()
            if name in self._names and name not in found:
                there = inspect(self._connection).get_indexes(self._names[name])
                found[name] = {known["name"] for known in there}
            if index.name not in found.get(name, ()):
                self._note()
                # Of a million rows it takes seconds, in which nobody else writes to the table.
                said = log.bind(index=index.name, table=index.table.name) if name in self._names else None
                if said is not None:
                    said.info("making_index")
                began = time.monotonic()
                self._connection.execute(CreateIndex(index))
                if said is not None:
                    said.info("made_index", seconds=round(time.monotonic() - began, 1))

    def _note(self) -> None:
        if not self._is_noted:
            self._connection.execute(CreateTable(tables.MAKING))
            self._is_noted = True


def _check_version(connection: Connection, missing: list[str]) -> None:
    if tables.MLMD_ENV.name in missing:
        if tables.TYPE.name not in missing and "is_artifact_type" in _columns(connection, tables.TYPE.name):
            raise FailedPrecondition(_too_old(0))
        raise Aborted(
            f"the database has some of MLMD's tables but not these: {', '.join(missing)}; "
            "somebody may be creating them now; try again"
        )
    versions = connection.execute(select(tables.MLMD_ENV.c.schema_version)).scalars().all()
    if not versions:
        raise Aborted("MLMDEnv is empty: somebody may be creating the database now; try again")
    if len(versions) > 1:
        raise DataLoss(f"MLMDEnv has {len(versions)} rows instead of one")
    version = versions[0]
    if version > tables.SCHEMA_VERSION:
        raise FailedPrecondition(
            f"the database has MLMD's schema version {version}, and this program knows versions up to "
            f"{tables.SCHEMA_VERSION}: use a newer mdstore"
        )
    if version < tables.SCHEMA_VERSION:
        raise FailedPrecondition(_too_old(version))
    if missing:
        raise Aborted(f"the database has some of MLMD's tables but not these: {', '.join(missing)}")


def _columns(connection: Connection, table: str) -> set[str]:
    with warnings.catch_warnings():
        # SQLAlchemy stumbles over types such as INTEGER(1), which are of no interest here.
        warnings.simplefilter("ignore", SAWarning)
        return {column["name"] for column in inspect(connection).get_columns(table)}


def _too_old(version: int) -> str:
    return (
        f"the database has MLMD's schema version {version}, older than {tables.SCHEMA_VERSION}: "
        "see `mdstore upgrade --dry-run --database URL`, then upgrade it"
    )


def _check_format(connection: Connection) -> None:
    found = connection.execute(select(tables.HEAD.c.format)).scalars().all()
    if len(found) != 1:
        raise DataLoss(f"{tables.HEAD.name} has {len(found)} rows instead of one")
    if found[0] > FORMAT:
        raise FailedPrecondition(
            f"the change log has format {found[0]}, and this program knows formats up to {FORMAT}: use a newer mdstore"
        )


def _upsert_system_types(connection: Connection, *, may_have_lost_ids: bool) -> changes.Changes:
    """MLMD's nine types have the ids 1 to 9 in a fresh database, and every open puts back those that are missing."""
    columns = tables.TYPE.c
    found = {
        (kind, name)
        for kind, name in connection.execute(
            select(columns.type_kind, columns.name).where(
                columns.name.in_(kinds.SYSTEM_TYPE_NAMES), columns.version.is_(None)
            )
        )
    }
    # MySQL gives no id twice, even if whoever was given the first ones was killed.
    is_empty = may_have_lost_ids and not connection.execute(select(columns.id).limit(1)).all()
    ids = iter(range(1, len(kinds.SYSTEM_TYPE_NAMES) + 1))
    added = changes.Changes()
    for kind in (kinds.ARTIFACT, kinds.EXECUTION):
        for name in kind.system_types:
            if (kind.type_kind, name) not in found:
                given = {"id": next(ids)} if is_empty else {}
                made = connection.execute(insert(tables.TYPE).values(name=name, type_kind=kind.type_kind, **given))
                key: Any = made.inserted_primary_key
                getattr(added, f"{kind.label}_types").add(id=key[0], name=name)
    return added
