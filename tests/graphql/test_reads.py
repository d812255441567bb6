"""How often the reader and the graph are asked: once per level of a query, whatever the number of nodes."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mdstore
from mdstore.store.reader import Reader
from mdstore.values import ExecutionState
from mdstore_graphql.settings import GraphQLSettings
from mdstore_lineage.opening import open_graph
from tests.graphql import world
from tests.graphql.conftest import Post, serving

NESTED = """{
  runs(first: 100) {
    totalCount
    nodes {
      name pipeline { name runs(first: 5) { totalCount nodes { name } } }
      executions(first: 50) {
        totalCount
        nodes {
          name
          inputs { edges { name node { name producer { name run { name } } } } }
          outputs { nodes { name runs { name } usedByRuns { name } } }
        }
      }
      inputArtifacts { nodes { name } }
      outputArtifacts { nodes { name } }
    }
  }
}"""


class CountingReader(Reader):
    """A reader that knows how often it was asked what."""

    calls: Counter[str]

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name in {"calls", "open", "close"}:
            return found

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return found(*args, **kwargs)

        return counted


def chain(runs: int) -> Callable[[world.Telling], None]:
    """Each run makes a table from the last run's table."""

    def tell(telling: world.Telling) -> None:
        telling.pipeline("long")
        telling.artifact("table-0", "system.Dataset", "s3://t/0")
        for number in range(1, runs + 1):
            telling.run(f"run-{number}", "long", "SUCCEEDED", "2026-11-18T08:00:00.000Z")
            telling.artifact(f"table-{number}", "system.Dataset", f"s3://t/{number}")
            telling.step(
                f"run-{number}",
                "step",
                ExecutionState.COMPLETE,
                uses=(f"table-{number - 1}",),
                makes=(f"table-{number}",),
            )

    return tell


@pytest.fixture(params=[1, 60], ids=["one run", "sixty runs"])
def counted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Post, Any]]:
    folder = tmp_path_factory.mktemp("chain")
    database, graph_url = f"sqlite:///{folder / 'metadata.db'}", f"sqlite:///{folder / 'lineage.db'}"
    telling = world.Telling()
    chain(request.param)(telling)
    with mdstore.connect(database) as client:
        client.ingest(telling.request)
        graph = open_graph(graph_url)
        world.project(client, graph)
        graph.close()
    reader = CountingReader.open(database)
    reader.calls = Counter()
    with serving(reader, graph_url, GraphQLSettings()) as post:
        yield post, reader.calls


def test_a_nested_query_reads_once_per_level(counted: tuple[Post, Counter[str]]) -> None:
    post, calls = counted
    answer = post(NESTED)
    assert "errors" not in answer, answer["errors"]
    runs = answer["data"]["runs"]
    assert len(runs["nodes"]) == runs["totalCount"]
    assert all(run["executions"]["nodes"][0]["outputs"]["nodes"][0]["name"] for run in runs["nodes"])
    once = {
        "list_contexts",
        "count_contexts",
        "parents_of_contexts",
        "list_contexts_in",
        "count_contexts_in",
        "list_executions_in",
        "count_executions_in",
        "executions_of_contexts",
    }
    assert {name: calls[name] for name in once} == dict.fromkeys(once, 1)
    # Fields of one level whose parents come a moment apart are read apart, but never node by node.
    most = {
        "artifacts": 3,
        "executions": 1,
        "events_of_artifacts": 2,
        "events_of_executions": 2,
        "contexts_of_executions": 3,
    }
    assert set(calls) <= once | set(most)
    assert all(calls[name] <= limit for name, limit in most.items()), calls


def test_a_name_in_a_nested_filter_is_looked_up_once(counted: tuple[Post, Counter[str]]) -> None:
    post, calls = counted
    answer = post(
        '{ runs(first: 100) { nodes { executions(filter: {run: "run-1", pipeline: "long"}) { totalCount } } } }'
    )
    assert sum(run["executions"]["totalCount"] for run in answer["data"]["runs"]["nodes"]) == 1
    assert dict(calls) == {
        "list_contexts": 3,
        "parents_of_contexts": 1,
        "list_executions_in": 1,
        "count_executions_in": 1,
    }


def test_a_lineage_reads_its_nodes_at_once(counted: tuple[Post, Counter[str]]) -> None:
    post, calls = counted
    first = post('{ artifact(uri: "s3://t/0") { id } }')["data"]["artifact"]["id"]
    calls.clear()
    query = """query ($of: [ID!]!) { lineage(of: $of, direction: DOWNSTREAM) {
      nodes { name ... on Execution { run { name } } } edges { from { name } to { name } }
      runs { name } byRun { run { name } made { name } } truncated } }"""
    answer = post(query, {"of": [first]})
    assert "errors" not in answer, answer["errors"]
    lineage = answer["data"]["lineage"]
    assert len(lineage["nodes"]) == 2 * len(lineage["runs"]) + 1
    assert dict(calls) == {"artifacts": 1, "executions": 1, "contexts": 1, "contexts_of_executions": 1}


def test_what_nobody_asked_for_is_not_read(counted: tuple[Post, Counter[str]]) -> None:
    post, calls = counted
    post("{ artifacts { nodes { name uri state customProperties } } }")
    assert dict(calls) == {"list_artifacts": 1}


def test_a_request_that_loads_too_much_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    database, graph_url = world.make(tmp_path_factory.mktemp("world"))
    with serving(Reader.open(database), graph_url, GraphQLSettings(graphql_max_nodes=20)) as post:
        assert "errors" not in post("{ runs { nodes { executions { nodes { name } } } } }")
        answer = post(
            "{ runs { nodes { executions { nodes { outputs { nodes { name } } } } artifacts { nodes { name } } } } }"
        )
        assert {error["extensions"]["code"] for error in answer["errors"]} == {"RESOURCE_EXHAUSTED"}
        assert "20 nodes" in answer["errors"][0]["message"]
