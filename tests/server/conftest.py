"""A store, and a server of it with both ports."""

import shutil
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
