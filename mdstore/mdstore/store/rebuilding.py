"""Making MLMD's tables anew as version 10 has them, filled from those of an older version, in each database's way.

SQLite and PostgreSQL undo whatever is not committed, so there the old tables are set aside, copied and dropped inside
one transaction. On MySQL every CREATE and ALTER commits: there the new tables are made beside the old ones, which stay
as they are until one statement swaps all of them. Killed before that, an upgrade has changed nothing; after it, it
has left old tables that only have to be dropped. Either way the next run begins by tidying up.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, MetaData, Table, insert, inspect, text, update
from sqlalchemy.schema import CreateIndex, CreateTable

from mdstore.errors import Aborted
from mdstore.store import tables

NEW: Final = "mdstore_upgrade_"
"""Before the name of a table that is not finished; on SQLite of the old one while its successor is filled."""
OLD: Final = "mdstore_old_"
"""Before the name of a table whose successor is in its place."""
SCHEMA: Final = "mdstore_upgrade"
"""Where PostgreSQL's old tables are meanwhile."""
LOCK_S: Final = 30
"""How long to wait for who still uses PostgreSQL's tables."""


class Rebuilding(ABC):
    """The way of one database. Runs between `begin_exclusive` and `end_exclusive` of its dialect."""

    def __init__(self, connection: Connection) -> None:
        """Work on a connection."""
        self._connection = connection

    def tidy(self) -> None:
        """Remove, or put back, what an upgrade that was killed has left."""
        return

    @abstractmethod
    def columns(self, table: str) -> list[str]:
        """The columns of a table that is there."""

    @abstractmethod
    def rebuild(self, present: Collection[str], on_table: Callable[[str], None]) -> None:
        """Make all of MLMD's tables anew; `present` are those that are there, `on_table` is told each that is done."""

    def _run(self, statement: str) -> Any:
        return self._connection.exec_driver_sql(statement)

    def _quoted(self, name: str) -> str:
        return self._connection.dialect.identifier_preparer.quote(name)

    def _copy(self, table: Table, source: str, target: str, there: Sequence[str], *, order: str) -> None:
        """Copy the rows of `source`, which has the columns `there`; `order` is that of rows that have no id."""
        into = [column.name for column in table.columns if column.name in there]
        out = list(into)
        if table is tables.TYPE and "is_artifact_type" in there:
            # 1 is an artifact's, 0 an execution's, as in type_kind; there were no contexts.
            into.append("type_kind")
            out.append("is_artifact_type")
        # Names of MLMD's schema and ours, no values.
        query = f"SELECT {self._names(out)} FROM {source}"  # noqa: S608
        if table is tables.EVENT:
            kept = f"SELECT max(id) FROM {source} GROUP BY artifact_id, execution_id, type"  # noqa: S608
            query += f" WHERE id IN ({kept})"
        if "id" in there:
            query += " ORDER BY id"
        elif table is tables.EVENT_PATH and order:
            # Steps have no key, so the order of the rows is theirs.
            query += f" ORDER BY {order}"
        self._run(f"INSERT INTO {target} ({self._names(into)}) {query}")

    def _names(self, columns: Sequence[str]) -> str:
        return ", ".join(self._quoted(name) for name in columns)

    def _forget_paths(self, paths: str, events: str) -> None:
        """Delete the steps of events that went."""
        kept = f"SELECT 1 FROM {events} AS kept WHERE kept.id = event_id"  # noqa: S608 (names)
        self._run(f"DELETE FROM {paths} WHERE NOT EXISTS ({kept})")  # noqa: S608 (names)

    def _create_indexes(self, table: Table) -> None:
        for index in _indexes(table):
            self._connection.execute(CreateIndex(index))

    def _create_our_indexes(self) -> None:
        """Those that we add, if we have used the database before: they went with the old tables."""
        if inspect(self._connection).has_table(tables.HEAD.name):
            for index in tables.MISSING_INDEXES:
                self._connection.execute(CreateIndex(index))


class _InPlace(Rebuilding):
    """In one transaction: each table is set aside, copied and dropped."""

    order: str

    def rebuild(self, present: Collection[str], on_table: Callable[[str], None]) -> None:
        """One table after the other; then MLMDEnv says that it is done."""
        self._begin(present)
        for table in tables.MLMD_TABLES:
            if table is tables.MLMD_ENV:
                continue
            name = table.name
            there = self.columns(name) if name in present else []
            if there:
                self._set_aside(name)
            self._connection.execute(CreateTable(table))
            if there:
                self._copy(table, self._aside(name), self._quoted(name), there, order=self.order)
                if table is tables.EVENT_PATH:
                    self._forget_paths(self._quoted(name), self._quoted(tables.EVENT.name))
                self._go_on_counting(table)
                self._run(f"DROP TABLE {self._aside(name)}")
            self._create_indexes(table)
            on_table(name)
        if tables.MLMD_ENV.name in present:
            self._connection.execute(update(tables.MLMD_ENV).values(schema_version=tables.SCHEMA_VERSION))
        else:
            self._connection.execute(CreateTable(tables.MLMD_ENV))
            self._connection.execute(insert(tables.MLMD_ENV).values(schema_version=tables.SCHEMA_VERSION))
        self._create_our_indexes()
        self._end()

    @abstractmethod
    def _begin(self, present: Collection[str]) -> None:
        """Before the first table."""

    @abstractmethod
    def _end(self) -> None:
        """After the last one."""

    @abstractmethod
    def _set_aside(self, name: str) -> None:
        """Move the table and its indexes out of the way."""

    @abstractmethod
    def _aside(self, name: str) -> str:
        """The name of a table that was set aside, as SQL has it."""

    def _go_on_counting(self, table: Table) -> None:
        """Let ids begin after all that were ever given."""


class SQLiteRebuilding(_InPlace):
    """SQLite's way. An index of an old table goes before that of the same name is made."""

    order = "rowid"

    def columns(self, table: str) -> list[str]:
        """By SQLite's own words: SQLAlchemy stumbles over types such as INTEGER(1)."""
        return [row[1] for row in self._run(f'PRAGMA table_info("{table}")')]

    def _begin(self, present: Collection[str]) -> None:  # noqa: ARG002 (an interface)
        # Ids are never given twice, so what was given before counts, even if its row is gone.
        self._given: dict[str, int] = {row.name: row.seq for row in self._run("SELECT name, seq FROM sqlite_sequence")}

    def _set_aside(self, name: str) -> None:
        self._run(f'ALTER TABLE "{name}" RENAME TO {self._aside(name)}')

    def _aside(self, name: str) -> str:
        return f'"{NEW}{name}"'

    def _end(self) -> None:
        for name, seq in self._given.items():
            given = {"name": name, "seq": seq}
            self._connection.execute(
                text("UPDATE sqlite_sequence SET seq = :seq WHERE name = :name AND seq < :seq"), given
            )
            self._connection.execute(
                text(
                    "INSERT INTO sqlite_sequence (name, seq) SELECT :name, :seq "
                    "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name) "
                    "AND EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name)"
                ),
                given,
            )


class PostgreSQLRebuilding(_InPlace):
    """PostgreSQL's way. Names of indexes and keys are a schema's, so the old tables go into another one."""

    order = "ctid"

    def columns(self, table: str) -> list[str]:
        """By the catalog."""
        return [column["name"] for column in inspect(self._connection).get_columns(table.lower())]

    def _begin(self, present: Collection[str]) -> None:
        self._run(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
        self._run(f"LOCK TABLE {self._names(sorted(present))} IN ACCESS EXCLUSIVE MODE")
        self._run(f"CREATE SCHEMA {SCHEMA}")

    def _set_aside(self, name: str) -> None:
        self._run(f"ALTER TABLE {self._quoted(name)} SET SCHEMA {SCHEMA}")

    def _aside(self, name: str) -> str:
        return f"{SCHEMA}.{self._quoted(name)}"

    def _go_on_counting(self, table: Table) -> None:
        if "id" not in table.c:
            return
        name = table.name.lower()
        # The library's own downgrades leave sequences that begin anew.
        (given,) = self._run(f"SELECT pg_get_serial_sequence('{SCHEMA}.{name}', 'id')").one()
        last = f"(SELECT last_value FROM {given} WHERE is_called)" if given else "0"  # noqa: S608 (names)
        self._run(
            f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), found.most) "  # noqa: S608 (names)
            f"FROM (SELECT greatest({last}, (SELECT max(id) FROM {name}), 0) AS most) AS found WHERE found.most > 0"
        )

    def _end(self) -> None:
        self._run(f"DROP SCHEMA {SCHEMA}")


class MySQLRebuilding(Rebuilding):
    """MySQL's way: beside the old tables, then all of them swapped in one statement."""

    def columns(self, table: str) -> list[str]:
        """By MySQL's own words."""
        return [row[0] for row in self._run(f"SHOW COLUMNS FROM {self._quoted(table)}")]

    def tidy(self) -> None:
        """Put back the old tables that were swapped without the others, and drop what is left over."""
        there = self._there()
        # MLMDEnv is swapped last, so where it is behind, a server that fell over swapped only some of the tables.
        if any(name.startswith(OLD) for name in there) and not self._is_swapped(there):
            self._rename(
                pair
                for table in tables.MLMD_TABLES
                if f"{OLD}{table.name}" in there
                for pair in (
                    *([(table.name, f"{NEW}{table.name}")] if table.name in there else []),
                    (f"{OLD}{table.name}", table.name),
                )
            )
            there = self._there()
        self._drop(sorted(name for name in there if name.startswith((NEW, OLD))))

    def _is_swapped(self, there: Collection[str]) -> bool:
        if tables.MLMD_ENV.name not in there:
            return False
        found = self._run(f"SELECT schema_version FROM {tables.MLMD_ENV.name}").scalars().all()  # noqa: S608 (a name)
        return bool(found == [tables.SCHEMA_VERSION])

    def _there(self) -> set[str]:
        """The tables of MLMD's and those that an upgrade has left, by the names that they have here."""
        known = {table.name.lower(): table.name for table in tables.MLMD_TABLES}
        found = set()
        for (name,) in self._run("SHOW TABLES"):
            # A server on a file system of no case knows only lower-case names.
            prefix = next((prefix for prefix in (NEW, OLD) if name.startswith(prefix)), "")
            if (bare := name.removeprefix(prefix).lower()) in known:
                found.add(prefix + known[bare])
        return found

    def rebuild(self, present: Collection[str], on_table: Callable[[str], None]) -> None:
        """Make the new tables, swap, look whether somebody wrote meanwhile, and drop the old ones."""
        made = {}
        for table in tables.MLMD_TABLES:
            self._make(table, table.name in present)
            made[table.name] = self._figures(table, f"{NEW}{table.name}")
            on_table(table.name)
        self._rename(
            pair
            for table in tables.MLMD_TABLES
            for pair in (
                *([(table.name, f"{OLD}{table.name}")] if table.name in present else []),
                (f"{NEW}{table.name}", table.name),
            )
        )
        # What somebody wrote into the old tables after they were copied: they are out of reach only now.
        late = [
            table.name
            for table in tables.MLMD_TABLES
            if table is not tables.MLMD_ENV
            and table.name in present
            and self._figures(table, f"{OLD}{table.name}") != made[table.name]
        ]
        if late:
            # The swap the other way round, MLMDEnv first.
            self._rename(
                pair
                for table in reversed(tables.MLMD_TABLES)
                for pair in (
                    (table.name, f"{NEW}{table.name}"),
                    *([(f"{OLD}{table.name}", table.name)] if table.name in present else []),
                )
            )
            raise Aborted(f"somebody wrote to {', '.join(late)} meanwhile: stop who uses the database, and try again")
        self._create_our_indexes()
        self._drop([f"{OLD}{table.name}" for table in tables.MLMD_TABLES if table.name in present])

    def _make(self, table: Table, is_there: bool) -> None:
        name = f"{NEW}{table.name}"
        new = table.to_metadata(MetaData(), name=name)
        if is_there:
            # As altering the table would: the database's default may have become another one since.
            (collation,) = self._run(
                "SELECT table_collation FROM information_schema.tables "  # noqa: S608 (a name)
                f"WHERE table_schema = DATABASE() AND table_name = '{table.name}'"
            ).one()
            new.dialect_options["mysql"]["collate"] = collation
        indexes = _indexes(new)
        new.indexes.clear()
        self._connection.execute(CreateTable(new))
        if table is tables.MLMD_ENV:
            self._connection.execute(insert(new).values(schema_version=tables.SCHEMA_VERSION))
        elif is_there:
            # Without an order InnoDB gives rows in the order of their own hidden key, in which they came.
            self._copy(table, self._quoted(table.name), name, self.columns(table.name), order="")
            if table is tables.EVENT_PATH:
                self._forget_paths(name, f"{NEW}{tables.EVENT.name}")
        # Indexes are made faster from rows that are there.
        added = []
        for index in indexes:
            created = str(CreateIndex(index).compile(dialect=self._connection.dialect))
            added.append(f"ADD INDEX {self._quoted(str(index.name))} {created[created.index('(') :]}")
        if is_there and "id" in table.c:
            # Not from information_schema, which MySQL 8 keeps for a day.
            (_, definition) = self._run(f"SHOW CREATE TABLE {self._quoted(table.name)}").one()
            if given := re.search(r"AUTO_INCREMENT=(\d+)", definition):
                added.append(f"AUTO_INCREMENT={given[1]}")
        if added:
            self._run(f"ALTER TABLE {name} {', '.join(added)}")
        self._run("COMMIT")

    def _figures(self, table: Table, name: str) -> tuple[Any, ...]:
        """What every write of the library to the table changes."""
        if table is tables.EVENT:
            # Duplicates are not copied.
            query = f"SELECT count(DISTINCT artifact_id, execution_id, type), max(id) FROM {name}"  # noqa: S608 (a name)
        elif table is tables.EVENT_PATH:
            return ()
        else:
            there = self.columns(name)
            more = [f"max({column})" for column in ("id",) if column in there]
            more += [f"sum({column})" for column in ("last_update_time_since_epoch",) if column in there]
            query = f"SELECT {', '.join(['count(*)', *more])} FROM {name}"  # noqa: S608 (a name)
        found: Sequence[Any] = self._run(query).one()
        # A column that is new holds its default, which adds up to nothing.
        return tuple(value for value in found if value)

    def _rename(self, pairs: Any) -> None:
        self._run("RENAME TABLE " + ", ".join(f"{self._quoted(old)} TO {self._quoted(new)}" for old, new in pairs))

    def _drop(self, names: Sequence[str]) -> None:
        if names:
            self._run(f"DROP TABLE {', '.join(self._quoted(name) for name in names)}")


def _indexes(table: Table) -> list[Any]:
    """Those that MLMD has."""
    ours = {index.name for index in tables.MISSING_INDEXES}
    return sorted((index for index in table.indexes if index.name not in ours), key=lambda index: str(index.name))
