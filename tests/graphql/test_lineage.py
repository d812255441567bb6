"""Lineage: walks, runs, paths; limits that are said; the graph behind the store, or not there."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.store.reader import Reader
from mdstore.wire import nodes
from mdstore_graphql.settings import GraphQLSettings
from mdstore_lineage.opening import open_graph
from tests.graphql import world
from tests.graphql.conftest import Ask, Post, serving

WALK = """query ($of: [ID!]!, $direction: Direction! = UPSTREAM, $hops: Int, $nodes: Int! = 1000, $types: [String!]) {
  lineage(of: $of, direction: $direction, maxHops: $hops, maxNodes: $nodes, types: $types) {
    nodes { __typename name ... on Execution { attempt run { name } } }
    reached { hops node { name } }
    edges { name eventType from { __typename name } to { __typename name } }
    runs { name } truncated cutBy position
    byRun { run { name } executions { name } made { name } used { name } }
  }
}"""


def names(nodes: list[dict[str, Any]]) -> list[str]:
    return sorted(node["name"] for node in nodes)


def test_everything_a_model_came_from_over_all_runs(ask: Ask, ids: dict[str, str]) -> None:
    found = ask(WALK, of=[ids["model"]])["lineage"]
    assert [(each["hops"], each["node"]["name"]) for each in found["reached"]] == [
        (0, "model"),
        (1, "fit"),
        (2, "features"),
        (3, "features"),  # and not the cache hit of the second run
        (4, "train"),
        (5, "split"),
        (6, "raw"),
        (7, "extract"),
    ]
    assert [node["name"] for node in found["nodes"]] == [each["node"]["name"] for each in found["reached"]]
    edges = {(edge["from"]["name"], edge["eventType"], edge["to"]["name"]) for edge in found["edges"]}
    assert edges == {
        ("extract", "OUTPUT", "raw"),
        ("raw", "INPUT", "split"),
        ("split", "OUTPUT", "train"),
        ("train", "INPUT", "features"),
        ("features", "OUTPUT", "features"),
        ("features", "INPUT", "fit"),
        ("fit", "OUTPUT", "model"),
    }
    assert len(found["edges"]) == 7
    assert (found["truncated"], found["cutBy"]) == (False, [])
    assert [run["name"] for run in found["runs"]] == ["day", "first"]
    assert found["byRun"] == [
        {
            "run": {"name": "day"},
            "executions": [{"name": "split"}, {"name": "extract"}],
            "made": [{"name": "raw"}, {"name": "train"}],
            "used": [],
        },
        {
            "run": {"name": "first"},
            "executions": [{"name": "fit"}, {"name": "features"}],
            "made": [{"name": "features"}, {"name": "model"}],
            "used": [{"name": "train"}],
        },
    ]


def test_the_same_question_asked_of_the_artifact(ask: Ask, ids: dict[str, str]) -> None:
    short = "query ($id: ID!) { artifact(id: $id) { lineage { nodes { id } runs { name } } } }"
    root = "query ($id: ID!) { lineage(of: [$id]) { nodes { id } runs { name } } }"
    assert ask(short, id=ids["model"])["artifact"]["lineage"] == ask(root, id=ids["model"])["lineage"]
    of_step = (
        "query ($id: ID!) { execution(id: $id) { lineage(direction: DOWNSTREAM, maxHops: 1) { nodes { name } } } }"
    )
    found = ask(of_step, id=ids["day/split/0"])["execution"]["lineage"]["nodes"]
    assert names(found) == ["split", "test", "train"]


def test_which_runs_used_an_artifact_directly_and_through_what_was_made_from_it(ask: Ask, ids: dict[str, str]) -> None:
    query = """query ($id: ID!) {
      direct: usedBy(artifact: $id, transitively: false) { runs { name } truncated nodes { name } }
      all: usedBy(artifact: $id) { runs { name } truncated }
      artifact(id: $id) { usedByRuns { name } usedBy(transitively: false) { runs { name } } }
    }"""
    found = ask(query, id=ids["train"])
    assert found["direct"] == {
        "runs": [{"name": "first"}],
        "truncated": False,
        "nodes": [{"name": "train"}, {"name": "features"}],
    }
    assert found["all"] == {"runs": [{"name": "first"}, {"name": "second"}], "truncated": False}
    assert found["artifact"] == {"usedByRuns": [{"name": "first"}], "usedBy": {"runs": [{"name": "first"}]}}


def test_both_directions_reach_what_is_connected(ask: Ask, ids: dict[str, str]) -> None:
    found = ask(WALK, of=[ids["profile"]], direction="BOTH")["lineage"]
    assert len(found["nodes"]) == 6 + 8
    assert names(found["runs"]) == ["day", "first", "fraud", "second"]


def test_a_walk_from_many_begins_at_each_once(ask: Ask, ids: dict[str, str]) -> None:
    found = ask(WALK, of=[ids["test"], ids["profile"], ids["test"]])["lineage"]
    assert [each["node"]["name"] for each in found["reached"] if each["hops"] == 0] == ["test", "profile"]


def test_types_restrict_what_is_shown_and_not_where_the_walk_goes(ask: Ask, ids: dict[str, str]) -> None:
    found = ask(WALK, of=[ids["model"]], types=["system.Dataset"])["lineage"]
    assert names(found["nodes"]) == ["features", "model", "raw", "train"]
    assert found["edges"] == []
    assert [run["name"] for run in found["runs"]] == ["day", "first"]
    steps = ask(WALK, of=[ids["model"]], types=["system.ContainerExecution"])["lineage"]
    assert names(steps["nodes"]) == ["extract", "features", "fit", "model", "split"]


def test_a_cut_answer_says_that_it_is_cut_and_why(ask: Ask, ids: dict[str, str]) -> None:
    hops = ask(WALK, of=[ids["model"]], hops=2)["lineage"]
    assert (names(hops["nodes"]), hops["truncated"], hops["cutBy"]) == (["features", "fit", "model"], True, ["HOPS"])
    nodes = ask(WALK, of=[ids["model"]], nodes=3)["lineage"]
    assert (len(nodes["nodes"]), nodes["truncated"], nodes["cutBy"]) == (3, True, ["NODES"])
    exact = ask(WALK, of=[ids["model"]], hops=7, nodes=8)["lineage"]
    assert (len(exact["nodes"]), exact["truncated"], exact["cutBy"]) == (8, False, [])


def test_paths_between_two_nodes(ask: Ask, ids: dict[str, str]) -> None:
    query = """query ($from: ID!, $to: ID!, $hops: Int, $most: Int! = 10) {
      paths(from: $from, to: $to, maxHops: $hops, most: $most) { paths { nodes { name } } truncated cutBy position }
    }"""
    found = ask(query, **{"from": ids["raw"], "to": ids["first/fit/1"]})["paths"]
    assert [[node["name"] for node in path["nodes"]] for path in found["paths"]] == [
        ["raw", "split", "train", "features", "features", "fit"]
    ]
    assert not found["truncated"]
    against = ask(query, **{"from": ids["model"], "to": ids["raw"]})["paths"]
    assert (against["paths"], against["truncated"]) == ([], False)
    short = ask(query, **{"from": ids["raw"], "to": ids["model"]}, hops=2)["paths"]
    assert (short["paths"], short["truncated"], short["cutBy"]) == ([], True, ["HOPS"])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"hops": -1}, "maxHops"),
        ({"nodes": 0}, "maxNodes"),
        ({"nodes": 10_001}, "maxNodes"),
        ({"of": []}, "of:"),
        ({"of": ["nonsense"]}, "global id"),
    ],
)
def test_limits_out_of_range_are_refused(post: Post, ids: dict[str, str], variables: dict[str, Any], said: str) -> None:
    [error] = post(WALK, {"of": [ids["model"]], **variables})["errors"]
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"
    assert said in error["message"]


def test_a_start_that_is_not_in_the_store_is_not_found(post: Post) -> None:
    [error] = post(WALK, {"of": ["QXJ0aWZhY3Q6OTk5"]})["errors"]
    assert error["extensions"]["code"] == "NOT_FOUND"
    query = '{ paths(from: "QXJ0aWZhY3Q6OTk5", to: "QXJ0aWZhY3Q6MQ==") { truncated } }'
    [error] = post(query)["errors"]
    assert error["extensions"]["code"] == "NOT_FOUND"


def test_a_run_is_no_place_to_begin_a_walk(post: Post, ask: Ask) -> None:
    run = ask('{ run(name: "first") { id } }')["run"]["id"]
    [error] = post(WALK, {"of": [run]})["errors"]
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"
    assert "Artifact or Execution" in error["message"]


def test_a_graph_behind_the_store_is_waited_for_and_then_said(tmp_path: Path) -> None:
    database, graph_url = world.make(tmp_path, projected=False)
    settings = GraphQLSettings(graphql_position_wait_s=0.3)
    with serving(Reader.open(database), graph_url, settings) as post:
        model = post('{ artifact(uri: "s3://models/churn/model.csv") { id } }')["data"]["artifact"]["id"]
        begun = time.monotonic()
        answer = post(WALK, {"of": [model]})
        assert 0.3 <= time.monotonic() - begun < 3
        [error] = answer["errors"]
        assert error["extensions"]["code"] == "DEADLINE_EXCEEDED"
        assert "mdstore lineage follow" in error["message"]
        # Lists do not need the graph.
        assert post("{ runs { totalCount } }")["data"]["runs"]["totalCount"] == 4
        with mdstore.connect(database) as client:
            graph = open_graph(graph_url)
            position = world.project(client, graph)
            graph.close()
        lineage = post(WALK, {"of": [model]})["data"]["lineage"]
        assert (len(lineage["nodes"]), lineage["position"]) == (8, position)
        query = "query ($of: [ID!]!, $p: Position) { lineage(of: $of, minPosition: $p) { position } }"
        assert post(query, {"of": [model], "p": position})["data"]["lineage"]["position"] == position
        for answer in (
            post(query, {"of": [model], "p": position + 1}),
            post(query, {"of": [model]}, {"x-mdstore-min-position": str(position + 1)}),
        ):
            assert answer["errors"][0]["extensions"]["code"] == "DEADLINE_EXCEEDED"
        [error] = post(query, {"of": [model]}, {"x-mdstore-min-position": "soon"})["errors"]
        assert error["extensions"]["code"] == "INVALID_ARGUMENT"


def test_a_graph_that_cannot_be_opened_is_an_error_of_lineage_alone(tmp_path: Path) -> None:
    database, _ = world.make(tmp_path)
    with serving(Reader.open(database), f"sqlite:///{tmp_path / 'nowhere' / 'lineage.db'}") as post:
        answer = post("""{ artifact(uri: "s3://models/churn/model.csv") { name producer { name } usedByRuns { name }
          lineage { truncated } } }""")
        [error] = answer["errors"]
        assert (error["path"], error["extensions"]["code"]) == (["artifact", "lineage"], "UNAVAILABLE")
        assert answer["data"]["artifact"] is None
        found = post('{ artifact(uri: "s3://models/churn/model.csv") { producer { name } } }')
        assert found == {"data": {"artifact": {"producer": {"name": "fit"}}}}


def test_a_path_through_what_was_deleted_meanwhile_is_none(tmp_path: Path) -> None:
    """The graph is behind the store: with the node left out, its neighbours would look like each other's."""
    database, graph_url = world.make(tmp_path)
    query = """query ($from: ID!, $to: ID!) { paths(from: $from, to: $to) { paths { nodes { name } } position } }"""
    with serving(Reader.open(database), graph_url) as post, mdstore.connect(database) as client:
        found = post("{ artifacts(first: 100) { nodes { id name } } }")["data"]["artifacts"]["nodes"]
        ends = {node["name"]: node["id"] for node in found}
        asked = {"from": ends["raw"], "to": ends["model"]}
        (path,) = post(query, asked)["data"]["paths"]["paths"]
        assert "train" in [node["name"] for node in path["nodes"]]
        train = int(base64.b64decode(ends["train"]).decode().partition(":")[2])
        client.delete_nodes(nodes.DeleteNodesRequest(nodes=[{"kind": nodes.ARTIFACT, "id": train}]))
        assert post(query, asked)["data"]["paths"]["paths"] == []
