"""A fresh store for each test, reached in all four ways, and a spool of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdstore.steps import identity as steps
from mdstore.store.store import Store
from tests.client.ways import WAYS, Way, connected
from tests.store.served import serving


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that was opened once: a copy of it is had sooner than a new one."""
    file = tmp_path_factory.mktemp("empty") / "metadata.db"
    Store.open(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def database(tmp_path: Path, empty: Path) -> str:
    return f"sqlite:///{shutil.copy(empty, tmp_path)}"


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, database: str) -> Iterator[Way]:
    """A client of an empty store."""
    if request.param.endswith("in process"):
        with connected(request.param, database, 0) as found:
            yield found
        return
    with Store.open(database) as store, serving(store) as port, connected(request.param, database, port) as found:
        yield found


@pytest.fixture
def port(database: str) -> Iterator[int]:
    """A server's of an empty store."""
    with Store.open(database) as store, serving(store) as found:
        yield found


@pytest.fixture
def spool_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where steps keep what they cannot send."""
    folder = tmp_path / "spool"
    monkeypatch.setenv("MDSTORE_SPOOL", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Steps of one test know nothing of those of another, nor of the machine that the tests run on."""
    for name in ("STORE", "RUN_ID", "ATTEMPT", "CLUSTER", "NAMESPACE", "SPOOL_MAX_BYTES"):
        monkeypatch.delenv(f"MDSTORE_{name}", raising=False)
    monkeypatch.setenv("MDSTORE_SPOOL", str(tmp_path / "spool"))
    for name in ("ARGO_NODE_ID", "ARGO_WORKFLOW_UID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(steps, "_joined", set())
    steps._begun.clear()
