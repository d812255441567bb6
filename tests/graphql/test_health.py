"""`/healthz` when something is wrong."""

import asyncio
from pathlib import Path

import httpx

from mdstore.store.reader import Reader
from mdstore.vocabulary import ContextRoles
from mdstore_graphql.app import Sources, application
from mdstore_graphql.settings import GraphQLSettings
from mdstore_graphql.walks import GraphSource
from mdstore_lineage.opening import open_graph
from tests.graphql import world


def health(reader: Reader, graph_url: str) -> httpx.Response:
    app = application(
        Sources(reader, GraphSource(lambda: open_graph(graph_url)), ContextRoles.default()), GraphQLSettings()
    )

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mdstore") as client:
            return await client.get("/healthz")

    with reader:
        return asyncio.run(get())


def test_a_graph_that_cannot_be_read_is_503_with_the_reason(tmp_path: Path) -> None:
    database, _ = world.make(tmp_path)
    response = health(Reader.open(database), f"sqlite:///{tmp_path / 'nowhere' / 'lineage.db'}")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert "nowhere" in response.json()["reason"]


def test_a_store_that_cannot_be_read_is_503_with_the_reason(tmp_path: Path) -> None:
    database, graph_url = world.make(tmp_path)
    reader = Reader.open(database)
    reader.close()
    for file in tmp_path.glob("metadata.db*"):
        file.unlink()
    (tmp_path / "metadata.db").write_text("something else, and long enough\n" * 200)
    response = health(reader, graph_url)
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert "Traceback" not in response.text
