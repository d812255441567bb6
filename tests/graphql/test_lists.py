"""Lists: what a filter leaves, in which order, page by page."""

from typing import Any

import pytest

from tests.graphql.conftest import Ask, Post

FILTERED = {
    "artifacts": "query ($f: ArtifactFilter) { found: artifacts(filter: $f) { totalCount nodes { name } } }",
    "executions": "query ($f: ExecutionFilter) { found: executions(filter: $f) { totalCount nodes { name } } }",
    "runs": "query ($f: RunFilter) { found: runs(filter: $f) { totalCount nodes { name } } }",
    "pipelines": "query ($f: PipelineFilter) { found: pipelines(filter: $f) { totalCount nodes { name } } }",
}


@pytest.mark.parametrize(
    ("kind", "where", "expected"),
    [
        ("artifacts", {}, ["raw", "train", "test", "features", "model", "profile"]),
        ("artifacts", {"types": ["system.Model", "system.Artifact"]}, ["model", "profile"]),
        ("artifacts", {"types": ["system.Nothing"]}, []),
        ("artifacts", {"name": "model"}, ["model"]),
        ("artifacts", {"name": "mode"}, []),
        ("artifacts", {"nameContains": "RA"}, ["raw", "train"]),
        ("artifacts", {"nameContains": "%"}, []),
        ("artifacts", {"states": ["LIVE"], "types": ["system.Model"]}, ["model"]),
        ("artifacts", {"states": ["DELETED"]}, []),
        ("artifacts", {"uri": "s3://data/2026/raw.csv"}, ["raw"]),
        ("artifacts", {"uriPrefix": "s3://features/"}, ["features", "profile"]),
        ("artifacts", {"uriPrefix": "s3://FEATURES/"}, []),
        ("artifacts", {"run": "first"}, ["train", "features", "model"]),
        ("artifacts", {"run": "uid-first"}, ["train", "features", "model"]),
        ("artifacts", {"run": "nobody"}, []),
        ("artifacts", {"pipeline": "churn"}, ["train", "features", "model"]),
        ("artifacts", {"pipeline": "churn", "run": "second"}, ["features"]),
        ("artifacts", {"pipeline": "fraud", "run": "second"}, []),
        ("artifacts", {"pipeline": "nothing"}, []),
        ("artifacts", {"producedAfter": "2026-11-18T09:01:00Z"}, ["features", "model"]),
        ("artifacts", {"producedBefore": "2026-11-18T09:01:00Z"}, ["raw", "train", "test"]),
        ("artifacts", {"producedAfter": "2026-11-18T10:01:00+01:00", "nameContains": "f"}, ["features"]),
        ("artifacts", {"createdAfter": "2000-01-01T00:00:00Z", "name": "raw"}, ["raw"]),
        ("artifacts", {"createdBefore": "2000-01-01T00:00:00Z"}, []),
        ("executions", {"states": ["FAILED"]}, ["fit", "fit"]),
        ("executions", {"taskName": "fit", "states": ["COMPLETE"]}, ["fit"]),
        ("executions", {"name": "features"}, ["features", "features"]),
        ("executions", {"run": "day"}, ["extract", "split"]),
        ("executions", {"pipeline": "churn"}, ["features", "features", "fit", "fit", "fit"]),
        ("executions", {"startedAfter": "2026-11-18T08:00:00Z"}, ["extract"]),
        ("executions", {"types": ["system.DAGExecution"]}, []),
        ("runs", {}, ["day", "first", "second", "fraud"]),
        ("runs", {"pipeline": "churn"}, ["first", "second"]),
        ("runs", {"pipeline": "churn", "states": ["FAILED", "RUNNING"]}, ["second"]),
        ("runs", {"states": ["FAILED", "RUNNING"]}, ["second", "fraud"]),
        ("runs", {"name": "first"}, ["first"]),
        ("runs", {"name": "uid-first"}, ["first"]),
        ("runs", {"nameContains": "IR"}, ["first"]),
        ("runs", {"startedAfter": "2026-11-18T09:00:00Z"}, ["first", "second", "fraud"]),
        ("runs", {"startedBefore": "2026-11-18T09:00:00Z"}, ["day"]),
        ("runs", {"startedAfter": "2026-11-18T09:00:00Z", "startedBefore": "2026-11-19T00:00:00Z"}, ["first", "fraud"]),
        ("runs", {"finishedAfter": "2026-11-18T08:05:00Z"}, ["day"]),
        ("pipelines", {}, ["customers", "churn", "fraud"]),
        ("pipelines", {"name": "churn"}, ["churn"]),
        ("pipelines", {"nameContains": "U"}, ["customers", "churn", "fraud"]),
    ],
)
def test_a_filter_leaves_what_it_says(ask: Ask, kind: str, where: dict[str, Any], expected: list[str]) -> None:
    found = ask(FILTERED[kind], f=where)["found"]
    assert [node["name"] for node in found["nodes"]] == expected
    assert found["totalCount"] == len(expected)


def test_pages_join_to_the_whole_list_in_both_directions(ask: Ask) -> None:
    query = """query ($first: Int!, $after: String, $order: NodeOrder) {
      executions(first: $first, after: $after, orderBy: $order) {
        edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount
      }
    }"""
    for field in ("ID", "CREATED_AT", "UPDATED_AT"):
        whole: dict[str, list[str]] = {}
        for direction in ("ASC", "DESC"):
            order = {"field": field, "direction": direction}
            found, after, pages = [], None, 0
            while True:
                page = ask(query, first=3, after=after, order=order)["executions"]
                found += [edge["node"]["id"] for edge in page["edges"]]
                info = page["pageInfo"]
                assert page["totalCount"] == 8
                assert info["hasPreviousPage"] == (after is not None)
                assert info["startCursor"] == page["edges"][0]["cursor"]
                assert info["endCursor"] == page["edges"][-1]["cursor"]
                after, pages = info["endCursor"], pages + 1
                if not info["hasNextPage"]:
                    break
            assert pages == 3
            assert len(set(found)) == 8
            whole[direction] = found
        assert whole["ASC"] == whole["DESC"][::-1]


def test_pages_of_uses_join_to_the_whole_list(ask: Ask, ids: dict[str, str]) -> None:
    query = """query ($id: ID!, $first: Int!, $after: String) { artifact(id: $id) {
      consumers(first: $first, after: $after) {
        totalCount edges { cursor name at eventType node { name attempt run { name } } }
        pageInfo { hasNextPage endCursor }
      } } }"""
    found, after = [], None
    while True:
        page = ask(query, id=ids["features"], first=2, after=after)["artifact"]["consumers"]
        assert page["totalCount"] == 3
        found += [(edge["node"]["run"]["name"], edge["node"]["attempt"]) for edge in page["edges"]]
        assert all(edge["name"] == "features" and edge["eventType"] == "INPUT" for edge in page["edges"])
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert found == [("first", 0), ("first", 1), ("second", 0)]


def test_an_empty_page_asks_for_nothing(ask: Ask) -> None:
    found = ask("{ runs(first: 0) { nodes { id } totalCount pageInfo { hasNextPage } } }")["runs"]
    assert (found["nodes"], found["totalCount"]) == ([], 4)


def test_nested_lists_are_pages_of_their_own(ask: Ask) -> None:
    found = ask("""{ pipelines { nodes { name
      runs(orderBy: {field: ID, direction: DESC}, first: 1) {
        totalCount pageInfo { hasNextPage } nodes { name
          executions(first: 2) { totalCount nodes { name } }
          artifacts { totalCount nodes { name } }
          inputArtifacts { nodes { name } }
          outputArtifacts { totalCount nodes { name } }
        } } } } }""")["pipelines"]["nodes"]
    churn = next(each for each in found if each["name"] == "churn")["runs"]
    assert (churn["totalCount"], churn["pageInfo"]["hasNextPage"]) == (2, True)
    [second] = churn["nodes"]
    assert second == {
        "name": "second",
        "executions": {"totalCount": 2, "nodes": [{"name": "features"}, {"name": "fit"}]},
        "artifacts": {"totalCount": 1, "nodes": [{"name": "features"}]},
        "inputArtifacts": {"nodes": []},
        "outputArtifacts": {"totalCount": 1, "nodes": [{"name": "features"}]},
    }
    fraud = next(each for each in found if each["name"] == "fraud")["runs"]["nodes"][0]
    assert fraud["inputArtifacts"]["nodes"] == [{"name": "raw"}]
    assert fraud["outputArtifacts"]["nodes"] == [{"name": "profile"}]


def test_nested_lists_are_filtered_each(ask: Ask) -> None:
    found = ask("""{ pipelines { nodes { name
      runs(filter: {states: [SUCCEEDED, FAILED], startedAfter: "2026-11-18T09:00:00Z"}) { totalCount nodes { name
        executions(filter: {states: [FAILED]}) { totalCount nodes { name attempt } }
        artifacts(filter: {types: ["system.Model"]}) { nodes { name } }
        none: executions(filter: {run: "nobody"}) { totalCount nodes { name } }
        own: executions(filter: {run: "first"}) { totalCount }
      } } } } }""")["pipelines"]["nodes"]
    assert {each["name"]: each["runs"]["totalCount"] for each in found} == {"customers": 0, "churn": 2, "fraud": 0}
    none = {"totalCount": 0, "nodes": []}
    assert next(each for each in found if each["name"] == "churn")["runs"]["nodes"] == [
        {
            "name": "first",
            "executions": {"totalCount": 1, "nodes": [{"name": "fit", "attempt": 0}]},
            "artifacts": {"nodes": [{"name": "model"}]},
            "none": none,
            "own": {"totalCount": 4 - 1},
        },
        {
            "name": "second",
            "executions": {"totalCount": 1, "nodes": [{"name": "fit", "attempt": 0}]},
            "artifacts": {"nodes": []},
            "none": none,
            "own": {"totalCount": 0},
        },
    ]


@pytest.mark.parametrize("first", [-1, 1001])
def test_a_page_out_of_range_is_refused(post: Post, first: int) -> None:
    for query in (
        "query ($n: Int!) { artifacts(first: $n) { nodes { id } } }",
        "query ($n: Int!) { runs { nodes { executions(first: $n) { nodes { id } } } } }",
        "query ($n: Int!) { artifacts { nodes { consumers(first: $n) { nodes { id } } } } }",
    ):
        [error, *_] = post(query, {"n": first})["errors"]
        assert error["extensions"]["code"] == "INVALID_ARGUMENT"
        assert str(first) in error["message"]


@pytest.mark.parametrize(
    "query",
    [
        '{ artifacts(after: "nonsense") { nodes { id } } }',
        '{ runs { nodes { executions(after: "nonsense") { nodes { id } } } } }',
        '{ executions { nodes { inputs(after: "nonsense") { nodes { id } } } } }',
        '{ executions { nodes { inputs(after: "YXQ6LTU=") { nodes { id } } } } }',
    ],
)
def test_a_cursor_of_something_else_is_refused(post: Post, query: str) -> None:
    assert {error["extensions"]["code"] for error in post(query)["errors"]} == {"INVALID_ARGUMENT"}


def test_a_cursor_of_another_order_is_refused(post: Post, ask: Ask) -> None:
    cursor = ask("{ runs(first: 1) { pageInfo { endCursor } } }")["runs"]["pageInfo"]["endCursor"]
    query = "query ($c: String) { runs(after: $c, orderBy: {field: CREATED_AT}) { nodes { id } } }"
    assert post(query, {"c": cursor})["errors"][0]["extensions"]["code"] == "INVALID_ARGUMENT"
