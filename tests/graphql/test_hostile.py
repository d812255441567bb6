"""Values that nobody means well with: refused or answered, and never a fault of ours."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

import mdstore
from mdstore.store.reader import Reader
from mdstore.wire import ingestion
from tests.graphql import world
from tests.graphql.conftest import Post, serving
from tests.graphql.processes import serving as process

TEXTS = ["", "\0", "a\0b", "%", "_", "\\", "'", '"; DROP TABLE Artifact; --', "ü" * 10_000, "\U0010ffff", "\ufffe"]

BODIES = [
    b"[" * 100_000,
    b'{"query": "' + b"{" * 100_000 + b'"}',
    b"null",
    b'"x"',
    b"3",
    b'{"query": "{x}", "variables": 1}',
    b'{"query": "{ runs { totalCount } }", "operationName": {}}',
    b'{"query": "{ runs { totalCount } }", "operationName": "x"}',
    rb'{"query": "query ($t: String) { runs(filter: {name: $t}) { totalCount } }", "variables": {"t": "\ud800"}}',
    rb'{"query": "{ runs(filter: {name: \"\\ud800\"}) { totalCount } }"}',
    b'{"query": "{ runs { totalCount } }", "variables": {"t": NaN}}',
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_any_text_may_be_asked_for(post: Post, text: str) -> None:
    query = """query ($t: String!, $id: ID!) {
      a: artifacts(filter: {name: $t}) { totalCount } b: artifacts(filter: {nameContains: $t}) { totalCount }
      c: artifacts(filter: {uri: $t}) { totalCount } d: artifacts(filter: {uriPrefix: $t}) { totalCount }
      e: artifacts(filter: {types: [$t]}) { totalCount } f: executions(filter: {taskName: $t}) { totalCount }
      g: runs(filter: {pipeline: $t}) { totalCount } h: run(name: $t) { name } i: artifact(uri: $t) { name }
      j: artifacts(after: $t) { totalCount } k: node(id: $id) { id } l: lineage(of: [$id]) { truncated }
    }"""
    answer = post(query, {"t": text, "id": text})
    codes = {error["extensions"]["code"] for error in answer["errors"]}
    assert codes == {"INVALID_ARGUMENT"}, answer["errors"]


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", "", "12", "∞"]
)
def test_a_moment_that_is_none_is_refused(post: Post, moment: str) -> None:
    query = "query ($m: DateTime) { artifacts(filter: {createdAfter: $m, producedBefore: $m}) { totalCount } }"
    assert {error["extensions"]["code"] for error in post(query, {"m": moment})["errors"]} == {"INVALID_ARGUMENT"}


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-01-31T08:00+05:30"])
def test_any_moment_may_be_asked_for(post: Post, moment: str) -> None:
    query = "query ($m: DateTime) { artifacts(filter: {createdAfter: $m, producedBefore: $m}) { totalCount } }"
    assert "errors" not in post(query, {"m": moment})


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**63, 1.5, "1", True, None])
def test_a_number_that_is_none_is_refused(post: Post, number: Any) -> None:
    query = "query ($n: Int!) { runs(first: $n) { totalCount } }"
    assert {error["extensions"]["code"] for error in post(query, {"n": number})["errors"]} == {"INVALID_ARGUMENT"}
    position = "query ($n: Position!) { lineage(of: [], minPosition: $n) { position } }"
    assert {error["extensions"]["code"] for error in post(position, {"n": number})["errors"]} == {"INVALID_ARGUMENT"}


def test_too_many_values_of_a_filter_are_refused(post: Post) -> None:
    query = "query ($t: [String!]) { artifacts(filter: {types: $t}) { totalCount } }"
    assert post(query, {"t": ["x"] * 1000})["data"]["artifacts"]["totalCount"] == 0
    [error] = post(query, {"t": ["x"] * 1001})["errors"]
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"


def test_what_clients_stored_is_shown_whatever_it_is(tmp_path: Path) -> None:
    database, graph_url = world.make(tmp_path)
    request = ingestion.IngestRequest(origin="test")
    artifact = request.artifacts.add(key=world.key("odd"), type="odd", uri="odd://")
    for name, value in (("display_name", ""), ("produced_at", "yesterday"), ("text", "a\nb\u2028\U0001f600")):
        artifact.custom_properties[name].string_value = value
    artifact.custom_properties["infinite"].double_value = float("inf")
    artifact.custom_properties["large"].int_value = 2**62
    execution = request.executions.add(key=world.key("odd"), type="odd")
    execution.custom_properties["exit_code"].int_value = 2**40
    execution.custom_properties["attempt"].double_value = 2.0
    execution.custom_properties["started_at"].string_value = "0001-01-01T00:00:00+14:00"
    event = request.events.add(execution=world.key("odd"), artifact=world.key("odd"), type=4, time_ms=10**17)
    event.path.steps.add(index=3)
    run = request.contexts.add(key=world.named(world.RUN, "odd"), type=world.RUN, name="odd")
    run.custom_properties["state"].string_value = "Somehow"
    run.custom_properties["parameters"].string_value = "no map"
    with mdstore.connect(database) as client:
        client.ingest(request)
    with serving(Reader.open(database), graph_url) as post:
        found = post("""{ artifact(uri: "odd://") { name type producedAt customProperties
          producers { edges { name index at node { name exitCode attempt startedAt } } } }
          run(name: "odd") { state parameters pipeline { name } } }""")
    assert "errors" not in found, found
    assert found["data"] == {
        "artifact": {
            "name": "odd:",
            "type": "odd",
            "producedAt": None,
            "customProperties": {
                "display_name": "",
                "produced_at": "yesterday",
                "text": "a\nb\u2028\U0001f600",
                "infinite": None,
                "large": 2**62,
            },
            "producers": {
                "edges": [
                    {
                        "name": None,
                        "index": 3,
                        "at": None,
                        "node": {"name": "odd", "exitCode": None, "attempt": 2, "startedAt": None},
                    }
                ]
            },
        },
        "run": {"state": "UNKNOWN", "parameters": "no map", "pipeline": None},
    }


def test_the_process_outlives_it_all(urls: tuple[str, str]) -> None:
    query = "query ($t: String!) { artifacts(filter: {name: $t}) { totalCount } }"
    with process(*urls) as server:
        for text in TEXTS:
            body = json.dumps({"query": query, "variables": {"t": text}})
            response = httpx.post(server.url, content=body, headers={"content-type": "application/json"})
            assert response.status_code == 200
        for content in BODIES:
            response = httpx.post(server.url, content=content, headers={"content-type": "application/json"})
            assert response.status_code == 400 or response.json()["errors"], content[:100]
            assert "Traceback" not in response.text
        assert httpx.get(server.healthz).status_code == 200
        code, _, said = server.stop()
    assert (code, "Traceback" in said) == (0, False), said
