"""Errors: every one has a code of the project's table, and none tells more than it should."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from mdstore.errors import STATUS
from mdstore.store.reader import Reader
from mdstore_graphql.failures import MASKED
from mdstore_graphql.schema import MAX_ALIASES, MAX_DEPTH, MAX_TOKENS
from tests.graphql import world
from tests.graphql.conftest import Post, serving


class BrokenReader(Reader):
    """A reader with a fault of ours in it."""

    def artifacts(self, ids: Any) -> Any:  # noqa: ARG002 - the reader's signature
        raise RuntimeError("a secret: the password is 1234")


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Post]:
    database, graph_url = world.make(tmp_path)
    with serving(BrokenReader.open(database), graph_url) as post:
        yield post


def codes(answer: dict[str, Any]) -> set[str]:
    return {error["extensions"]["code"] for error in answer["errors"]}


@pytest.mark.parametrize(
    "query",
    [
        "{ runs { nodes { name ",
        "{ nothing }",
        "{ runs }",
        '{ artifacts(filter: {states: ["NEVER"]}) { totalCount } }',
        '{ artifacts(filter: {createdAfter: "yesterday"}) { totalCount } }',
        '{ artifacts(filter: {createdAfter: "2026-01-01T00:00:00"}) { totalCount } }',
        "{ lineage(of: [], minPosition: -1) { truncated } }",
        "query ($n: Int!) { runs(first: $n) { totalCount } }",
        "mutation { delete }",
    ],
)
def test_what_graphql_refuses_is_an_invalid_argument(post: Post, query: str) -> None:
    answer = post(query)
    assert codes(answer) == {"INVALID_ARGUMENT"}
    assert MASKED not in str(answer)


def test_a_fault_of_ours_is_masked_and_logged_once(broken: Post, ids: dict[str, str]) -> None:
    query = "query ($a: ID!) { a: artifact(id: $a) { name } runs { totalCount } }"
    with structlog.testing.capture_logs() as logs:
        answer = broken(query, {"a": ids["raw"]})
    [error] = answer["errors"]
    assert error == {
        "message": MASKED,
        "path": ["a"],
        "locations": error["locations"],
        "extensions": {"code": "INTERNAL"},
    }
    assert answer["data"] == {"a": None, "runs": {"totalCount": 4}}
    assert "secret" not in str(answer)
    [logged] = [entry for entry in logs if entry["log_level"] == "error"]
    assert logged["path"] == "a"
    assert "secret" in str(logged["exc_info"])


def test_an_error_of_the_client_is_not_logged(post: Post) -> None:
    with structlog.testing.capture_logs() as logs:
        post("{ artifact { id } }")
        post("{ nothing }")
    assert [entry for entry in logs if entry["log_level"] in {"error", "warning"}] == []


def test_a_query_too_deep_is_refused(post: Post) -> None:
    levels = MAX_DEPTH // 3
    query = "{ runs { nodes { pipeline " + "{ runs { nodes { pipeline " * levels + "{ name }" + " } } }" * (levels + 1)
    answer = post(query)
    assert codes(answer) == {"INVALID_ARGUMENT"}
    assert "depth" in str(answer)


def test_a_query_too_long_is_refused(post: Post) -> None:
    answer = post("{ runs { nodes { " + "name " * MAX_TOKENS + "} } }")
    assert codes(answer) == {"INVALID_ARGUMENT"}
    assert "token" in str(answer)


def test_a_query_with_too_many_aliases_is_refused(post: Post) -> None:
    answer = post("{ " + " ".join(f"a{n}: runs {{ totalCount }}" for n in range(MAX_ALIASES + 1)) + " }")
    assert codes(answer) == {"INVALID_ARGUMENT"}
    assert "alias" in str(answer)


def test_limits_hold_for_a_query_that_was_asked_before(post: Post) -> None:
    query = "{ " + " ".join(f"b{n}: runs {{ totalCount }}" for n in range(MAX_ALIASES + 1)) + " }"
    assert codes(post(query)) == codes(post(query)) == {"INVALID_ARGUMENT"}


def test_every_code_is_of_the_table(post: Post) -> None:
    known = {status.code for status in STATUS.values()}
    for query in ("{ artifact { id } }", "{ x }", '{ lineage(of: ["QXJ0aWZhY3Q6OTk5"]) { truncated } }'):
        assert codes(post(query)) <= known
