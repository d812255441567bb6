"""Opening a database: what is there, is it ours to use, and making what is missing."""

import hashlib
import uuid
import warnings
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, inspect, select
from sqlalchemy.exc import SAWarning
from sqlalchemy.schema import CreateIndex, CreateTable

from mdstore.errors import Aborted, DataLoss, FailedPrecondition
from mdstore.store import kinds, tables
from mdstore.wire import changes

FORMAT: Final = 1
"""Of our own tables."""


def prepare(connection: Connection) -> changes.Changes:
    """Check the database and create what is missing, inside the caller's transaction.

    Returns:
        The system types that were missing.

    Raises:
        FailedPrecondition: the schema is older or newer than version 10, or our tables are of a newer format.
        Aborted: some of MLMD's tables are missing, as while somebody else creates them.
        DataLoss: MLMDEnv has more than one row.
    """
    present = set(inspect(connection).get_table_names())
    lowered = {name.lower() for name in present}
    wanted = [table for table in tables.MLMD_TABLES if table.name.lower() not in lowered]
    if len(wanted) < len(tables.MLMD_TABLES):
        _check_version(connection, missing=[table.name for table in wanted])
    else:
        _create(connection, tables.MLMD_TABLES)
        connection.execute(insert(tables.MLMD_ENV).values(schema_version=tables.SCHEMA_VERSION))
    added = _upsert_system_types(connection)
    if tables.HEAD.name in present:
        _check_format(connection)
    # Also those that a newer version of this program has brought.
    _create(connection, tuple(table for table in tables.OUR_TABLES if table.name not in present))
    if tables.HEAD.name not in present:
        connection.execute(
            insert(tables.HEAD).values(
                id=1, store_id=str(uuid.uuid4()), format=FORMAT, seq=0, hash=hashlib.sha256(b"").digest()
            )
        )
        names = {index["name"] for table in present for index in inspect(connection).get_indexes(table)}
        for index in tables.MISSING_INDEXES:
            if index.name not in names:
                connection.execute(CreateIndex(index))
    return added


def _create(connection: Connection, wanted: tuple[Table, ...]) -> None:
    for table in wanted:
        connection.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index not in tables.MISSING_INDEXES:
                connection.execute(CreateIndex(index))


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


def _upsert_system_types(connection: Connection) -> changes.Changes:
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
    added = changes.Changes()
    for kind in (kinds.ARTIFACT, kinds.EXECUTION):
        for name in kind.system_types:
            if (kind.type_kind, name) not in found:
                made = connection.execute(insert(tables.TYPE).values(name=name, type_kind=kind.type_kind))
                key: Any = made.inserted_primary_key
                getattr(added, f"{kind.label}_types").add(id=key[0], name=name)
    return added
