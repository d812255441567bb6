"""Databases of a server, for tests that need more than an empty store."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.databases.fixtures import ENGINES
from tests.databases.servers import MariaDBServer, PostgreSQLServer, Server

_NUMBERS = count()


@pytest.fixture(params=ENGINES[1:])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def database(server: Server) -> str:
    """The name of a database that is not there yet."""
    return f"test{next(_NUMBERS)}"


@pytest.fixture(params=ENGINES[1:])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that the test may stop, and that loses nothing when it is killed."""
    kinds = {"postgresql": PostgreSQLServer, "mariadb": MariaDBServer}
    with kinds[request.param](durable=True) as found:
        yield found
