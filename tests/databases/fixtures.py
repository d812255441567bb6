"""Servers once per session, started at their first use."""

from collections.abc import Iterator

import pytest

from mdstore.client.client import Client
from tests.databases.emptying import EmptyStore
from tests.databases.servers import MariaDBServer, PostgreSQLServer, Server

ENGINES = (
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=pytest.mark.postgresql),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
)
"""Parameters of a fixture that is there once for every database."""


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with PostgreSQLServer(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server."""
    with MariaDBServer(durable=False) as server:
        yield server


class EmptyStores:
    """The empty store of each server."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._found: dict[str, EmptyStore] = {}

    def client(self, engine: str) -> Client:
        """A client of an empty store on a server: "postgresql" or "mariadb"."""
        if engine not in self._found:
            self._found[engine] = EmptyStore(self._request.getfixturevalue(engine), "empty")
        return self._found[engine].client()

    def close(self) -> None:
        """Close the clients."""
        for found in self._found.values():
            found.close()


@pytest.fixture(scope="session")
def empty_stores(request: pytest.FixtureRequest) -> Iterator[EmptyStores]:
    """Empty stores on servers; a test has one of each at most."""
    found = EmptyStores(request)
    yield found
    found.close()
