"""Databases to ask filters of."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mdstore.store.database import Database, open_database
from mdstore.store.transaction import Transaction


@pytest.fixture(scope="session", params=["sqlite"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """An empty database of each kind."""
    folder: Path = tmp_path_factory.mktemp("filterquery")
    urls = {"sqlite": f"sqlite:///{folder / 'metadata.db'}"}
    with open_database(urls[request.param]) as opened:
        yield opened


@contextmanager
def rolled_back(database: Database) -> Iterator[Transaction]:
    """A transaction whose writes are gone afterwards."""
    with database.connection() as connection:
        connection.execute("BEGIN")
        try:
            yield Transaction(connection, database.dialect, lambda: 0)
        finally:
            connection.rollback()
