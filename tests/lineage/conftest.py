import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from mdstore.wire import changes
from mdstore_lineage.graph import LineageGraph
from mdstore_lineage.opening import open_graph
from tests.lineage.oracle import STORE

# How long an example takes says more about the other processes of the machine than about us.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def graph_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'lineage.db'}"


@pytest.fixture
def graph(graph_url: str) -> Iterator[LineageGraph]:
    opened = open_graph(graph_url)
    yield opened
    opened.close()


@contextmanager
def empty_graph() -> Iterator[LineageGraph]:
    """A graph of its own, for properties that need one for each example."""
    with TemporaryDirectory() as folder:
        opened = open_graph(f"sqlite:///{folder}/lineage.db")
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def projected(commits: Sequence[changes.Commit]) -> Iterator[LineageGraph]:
    """A graph that holds the commits."""
    with empty_graph() as graph:
        graph.apply(commits, store_id=STORE)
        yield graph


def content(graph: LineageGraph) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the graph's file."""
    path: Path = graph._path  # type: ignore[attr-defined]  # what the port does not show: the positions of rows
    with sqlite3.connect(path) as connection:
        found = {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in ("checkpoint", "type", "node", "edge", "context", "member", "parent")
        }
    connection.close()
    return found
