"""A store, and a server of it with both ports."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from mdstore.server.serving import Plan
from mdstore.store.store import Store
from tests.server.served import Server, running


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that was opened once: a copy of it is had sooner than a new one."""
    file = tmp_path_factory.mktemp("empty") / "metadata.db"
    Store.open(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def store(tmp_path: Path, empty: Path) -> Iterator[Store]:
    """An open, empty store."""
    with Store.open(f"sqlite:///{shutil.copy(empty, tmp_path)}") as opened:
        yield opened


@pytest.fixture
def server(store: Store) -> Iterator[Server]:
    """A server with both ports and everything else as it is by default."""
    with running(store, Plan(http_port=0)) as found:
        yield found


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    """A channel of gRPC that knows nothing of mdstore."""
    with grpc.insecure_channel(server.grpc) as found:
        yield found


@pytest.fixture
def large(store: Store) -> Store:
    """200,000 artifacts of one type, and as many events of the first."""
    connection = sqlite3.connect(str(store.database.engine.url.database))
    connection.execute("INSERT INTO Type (id, name, type_kind) VALUES (100, 'model', 1)")
    connection.executemany(
        "INSERT INTO Artifact (id, type_id, uri, name, create_time_since_epoch, last_update_time_since_epoch)"
        " VALUES (?, 100, ?, ?, 1, 1)",
        ((number, f"s3://bucket/{number}", f"n{number}") for number in range(1, 200_001)),
    )
    connection.executemany(
        "INSERT INTO Event (artifact_id, execution_id, type, milliseconds_since_epoch) VALUES (1, ?, 3, 1)",
        ((number,) for number in range(1, 200_001)),
    )
    connection.commit()
    connection.close()
    return store
