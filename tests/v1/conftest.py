"""A fresh store for each test, in the ways of tests/store."""

from collections.abc import Iterator

import pytest

from tests.databases.fixtures import ENGINES, EmptyStores
from tests.store.conftest import client, each, empty, local, on_sqlite, store, url

__all__ = ["client", "each", "empty", "local", "on_sqlite", "store", "url"]


@pytest.fixture(params=ENGINES)
def any_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The database of an empty store, of each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("url")
        return
    stores: EmptyStores = request.getfixturevalue("empty_stores")
    opened = stores.client(request.param)._store  # type: ignore[attr-defined]  # a client in this process
    scheme = {"postgresql": "postgresql", "mariadb": "mysql"}[request.param]
    yield opened.database.engine.url.set(drivername=scheme).render_as_string(hide_password=False)
