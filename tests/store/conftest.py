"""A fresh store for each test, reached in both ways that there are."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.store.store import Store
from tests.databases.fixtures import ENGINES, EmptyStores
from tests.store.served import serving


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that was opened once: a copy of it is had sooner than a new one."""
    file = tmp_path_factory.mktemp("empty") / "metadata.db"
    Store.open(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def url(tmp_path: Path, empty: Path) -> str:
    """The database of an empty store."""
    return f"sqlite:///{shutil.copy(empty, tmp_path)}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store."""
    with Store.open(url) as opened:
        yield opened


@contextmanager
def _of_sqlite(url: str, way: str) -> Iterator[Client]:
    if way == "in process":
        with mdstore.connect(url) as found:
            yield found
        return
    with Store.open(url) as opened, serving(opened) as port, mdstore.connect(f"grpc://127.0.0.1:{port}") as found:
        yield found


@pytest.fixture(params=["in process", "over gRPC"])
def on_sqlite(request: pytest.FixtureRequest, url: str) -> Iterator[Client]:
    """A client of an empty store in SQLite, both ways that there are, for what other databases cannot do."""
    with _of_sqlite(url, request.param) as found:
        yield found


@pytest.fixture(params=["in process", "over gRPC", *ENGINES[1:]])
def client(request: pytest.FixtureRequest, url: str, empty_stores: EmptyStores) -> Iterator[Client]:
    """A client of an empty store: of SQLite both ways that there are, of each other database one."""
    if request.param in ("postgresql", "mariadb"):
        yield empty_stores.client(request.param)
        return
    with _of_sqlite(url, request.param) as found:
        yield found


@pytest.fixture(params=ENGINES)
def each(request: pytest.FixtureRequest, url: str, empty_stores: EmptyStores) -> Iterator[Client]:
    """A client of an empty store in this process, on each database."""
    if request.param == "sqlite":
        with mdstore.connect(url) as found:
            yield found
        return
    yield empty_stores.client(request.param)


@pytest.fixture
def local(url: str) -> Iterator[Client]:
    """A client of an empty store in this process, for what does not depend on the way."""
    with mdstore.connect(url) as found:
        yield found
