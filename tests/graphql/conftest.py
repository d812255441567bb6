"""A real store and a real graph in files, and the application over them in this process."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from mdstore.store.reader import Reader
from mdstore.vocabulary import ContextRoles
from mdstore_graphql.app import Sources, application
from mdstore_graphql.settings import GraphQLSettings
from mdstore_graphql.walks import GraphSource
from mdstore_lineage.opening import open_graph
from tests.graphql import world

Post = Callable[..., dict[str, Any]]
Ask = Callable[..., dict[str, Any]]


@contextmanager
def serving(reader: Reader, graph_url: str, settings: GraphQLSettings | None = None) -> Iterator[Post]:
    """`post(query, variables, headers)`: the response's body; the application runs in an event loop of its own."""
    app = application(
        Sources(reader, GraphSource(lambda: open_graph(graph_url)), ContextRoles.default()),
        settings or GraphQLSettings(),
    )
    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mdstore")

        def post(
            query: str, variables: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
        ) -> dict[str, Any]:
            body = {"query": query, "variables": variables or {}}
            response = runner.run(client.post("/graphql", json=body, headers=headers))
            assert response.status_code == 200, response.text
            answer: dict[str, Any] = response.json()
            return answer

        # httpx does not send ASGI's lifespan events, and shutting down is part of what is tested.
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        yield post
        runner.run(lifespan.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def urls(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The database and the graph of `world`."""
    return world.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def post(urls: tuple[str, str]) -> Iterator[Post]:
    with serving(Reader.open(urls[0]), urls[1]) as posting:
        yield posting


@pytest.fixture(scope="session")
def ask(post: Post) -> Ask:
    """`ask(query, **variables)`: GraphQL's `data`; an error fails the test."""

    def asking(query: str, **variables: Any) -> dict[str, Any]:
        answer = post(query, variables)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    return asking


@pytest.fixture(scope="session")
def ids(ask: Ask) -> dict[str, str]:
    """Global ids of the artifacts by name, and of executions by run/task/attempt."""
    artifacts = ask("{ artifacts(first: 100) { nodes { id name } } }")["artifacts"]["nodes"]
    executions = ask("{ executions(first: 100) { nodes { id name attempt run { name } } } }")["executions"]["nodes"]
    return {
        **{node["name"]: node["id"] for node in artifacts},
        **{f"{node['run']['name']}/{node['name']}/{node['attempt']}": node["id"] for node in executions},
    }
