"""Databases to ask filters of."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mdstore.store.database import Database, open_database
from mdstore.store.transaction import Transaction
from tests.databases.fixtures import ENGINES


@pytest.fixture(scope="session")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """An empty database of SQLite."""
    with open_database(f"sqlite:///{tmp_path_factory.mktemp('filterquery') / 'metadata.db'}") as opened:
        yield opened


@pytest.fixture(scope="session", params=ENGINES)
def database(request: pytest.FixtureRequest, on_sqlite: Database) -> Iterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield on_sqlite
        return
    url = request.getfixturevalue(request.param).url("filterquery")
    # Functions look at characters, so the database must know them.
    with open_database(f"{url}?charset=utf8mb4" if request.param == "mariadb" else url) as opened:
        yield opened


@contextmanager
def rolled_back(database: Database) -> Iterator[Transaction]:
    """A transaction whose writes are gone afterwards."""
    with database.connection() as connection:
        connection.cursor().execute("BEGIN")
        try:
            yield Transaction(connection, database.dialect, lambda: 0)
        finally:
            database.dialect.rollback(connection)
