"""Single nodes: global ids, look-ups, and what their fields say."""

import base64

import pytest

from tests.graphql.conftest import Ask, Post


def test_every_node_is_found_again_by_its_global_id(ask: Ask) -> None:
    found = ask("""{ artifacts { nodes { __typename id name } } executions { nodes { __typename id name } }
      runs { nodes { __typename id name } } pipelines { nodes { __typename id name } } }""")
    nodes = [node for listed in found.values() for node in listed["nodes"]]
    assert len(nodes) == 6 + 8 + 4 + 3
    again = ask(
        "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on MetadataNode { name } } }",
        ids=[node["id"] for node in nodes],
    )["nodes"]
    assert again == nodes
    for node in nodes:
        assert ask("query ($id: ID!) { node(id: $id) { __typename id } }", id=node["id"])["node"] == {
            "__typename": node["__typename"],
            "id": node["id"],
        }


def test_a_node_that_is_not_there_is_null(ask: Ask, ids: dict[str, str]) -> None:
    def named(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode()

    run = ask('{ run(name: "first") { metadataId } }')["run"]["metadataId"]
    wanted = [named("Artifact:999"), ids["raw"], named("Run:999"), named(f"Pipeline:{run}"), named(f"Run:{run}")]
    found = ask("query ($ids: [ID!]!) { nodes(ids: $ids) { __typename } }", ids=wanted)["nodes"]
    assert found == [None, {"__typename": "Artifact"}, None, None, {"__typename": "Run"}]
    assert ask("query ($id: ID!) { node(id: $id) { id } }", id=named("Execution:999")) == {"node": None}


@pytest.mark.parametrize("text", ["", "nonsense", "QXJ0aWZhY3Q6eA==", "QXJ0aWZhY3Q6MA==", "Q29udGV4dDox", "ü"])
def test_what_is_no_global_id_is_refused(post: Post, text: str) -> None:
    [error] = post("query ($id: ID!) { node(id: $id) { id } }", {"id": text})["errors"]
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"
    assert "global id" in error["message"]


def test_look_ups_by_each_kind_of_name(ask: Ask, ids: dict[str, str]) -> None:
    found = ask(
        """query ($id: ID!) {
          byId: artifact(id: $id) { name metadataId } byUri: artifact(uri: "s3://models/churn/model.csv") { name }
          noUri: artifact(uri: "s3://nothing") { name }
          byName: run(name: "first") { runId } byRunId: run(name: "uid-first") { name } noRun: run(name: "x") { name }
          pipeline(name: "churn") { name contextName runs { nodes { name } } } noPipeline: pipeline(name: "") { name }
        }""",
        id=ids["model"],
    )
    number = found["byId"].pop("metadataId")
    assert found == {
        "byId": {"name": "model"},
        "byUri": {"name": "model"},
        "noUri": None,
        "byName": {"runId": "uid-first"},
        "byRunId": {"name": "first"},
        "noRun": None,
        "pipeline": {
            "name": "churn",
            "contextName": "churn",
            "runs": {"nodes": [{"name": "first"}, {"name": "second"}]},
        },
        "noPipeline": None,
    }
    assert ask("query ($n: ID!) { artifact(metadataId: $n) { id } }", n=number)["artifact"]["id"] == ids["model"]
    assert ask("query ($n: ID!) { artifact(metadataId: $n) { id } }", n=int(number))["artifact"]["id"] == ids["model"]


@pytest.mark.parametrize(
    "query",
    [
        "{ artifact { id } }",
        '{ artifact(uri: "a", metadataId: 1) { id } }',
        "{ run { id } }",
        '{ execution(metadataId: "x") { id } }',
        "{ execution(metadataId: 99999999999999999999) { id } }",
        '{ pipeline(name: "a", metadataId: 1) { id } }',
    ],
)
def test_a_look_up_needs_one_key_that_can_be_one(post: Post, query: str) -> None:
    [error] = post(query)["errors"]
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"


def test_an_id_of_another_kind_is_refused(post: Post, ids: dict[str, str]) -> None:
    [error] = post("query ($id: ID!) { execution(id: $id) { id } }", {"id": ids["raw"]})["errors"]
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"
    assert "Artifact" in error["message"]


def test_an_execution_tells_what_became_of_it(ask: Ask, ids: dict[str, str]) -> None:
    query = """query ($id: ID!) { execution(id: $id) {
      name taskName type state attempt message reason exitCode startedAt finishedAt externalId
      properties customProperties run { name } pipeline { name }
      inputs { totalCount edges { name index at eventType node { name } } } outputs { nodes { name } }
    } }"""
    failed = ask(query, id=ids["first/fit/0"])["execution"]
    assert failed == {
        "name": "fit",
        "taskName": "fit",
        "type": "system.ContainerExecution",
        "state": "FAILED",
        "attempt": 0,
        "message": "preempted",
        "reason": "Evicted",
        "exitCode": 143,
        "startedAt": None,
        "finishedAt": None,
        "externalId": "e/first/fit/0",
        "properties": {},
        "customProperties": {
            "display_name": "fit",
            "task_name": "fit",
            "exit_code": 143,
            "message": "preempted",
            "reason": "Evicted",
            "attempt": 0,
        },
        "run": {"name": "first"},
        "pipeline": {"name": "churn"},
        "inputs": {
            "totalCount": 1,
            "edges": [
                {
                    "name": "features",
                    "index": None,
                    "at": "1970-01-02T00:00:08.000Z",
                    "eventType": "INPUT",
                    "node": {"name": "features"},
                }
            ],
        },
        "outputs": {"nodes": []},
    }


def test_a_run_tells_what_became_of_it(ask: Ask) -> None:
    query = """query ($n: String!) { run(name: $n) { name runId type state message startedAt finishedAt parameters
      labels pipeline { name } } }"""
    assert ask(query, n="day")["run"] == {
        "name": "day",
        "runId": "uid-day",
        "type": "system.PipelineRun",
        "state": "SUCCEEDED",
        "message": None,
        "startedAt": "2026-11-18T08:00:00.000Z",
        "finishedAt": "2026-11-18T08:05:00.000Z",
        "parameters": {"rate": 0.1, "day": "day"},
        "labels": {"team": "customers"},
        "pipeline": {"name": "customers"},
    }
    second = ask(query, n="second")["run"]
    assert (second["state"], second["message"]) == ("FAILED", "fit failed")


def test_an_artifact_tells_who_made_and_who_used_it(ask: Ask, ids: dict[str, str]) -> None:
    found = ask(
        """query ($id: ID!) { artifact(id: $id) {
          name type uri state producedAt externalId
          producer { name state run { name } }
          producers { edges { name node { state run { name } } } }
          consumers { totalCount } runs { name } usedByRuns { name }
        } }""",
        id=ids["features"],
    )["artifact"]
    assert found == {
        "name": "features",
        "type": "system.Dataset",
        "uri": "s3://features/churn.csv",
        "state": "LIVE",
        "producedAt": "2026-11-18T09:01:00.000Z",
        "externalId": "a/features",
        # The store heard of the cache hit first, and it is no producer.
        "producer": {"name": "features", "state": "COMPLETE", "run": {"name": "first"}},
        "producers": {
            "edges": [
                {"name": "features", "node": {"state": "CACHED", "run": {"name": "second"}}},
                {"name": "features", "node": {"state": "COMPLETE", "run": {"name": "first"}}},
            ]
        },
        "consumers": {"totalCount": 3},
        "runs": [{"name": "first"}, {"name": "second"}],
        "usedByRuns": [{"name": "first"}, {"name": "second"}],
    }
