"""`mdstore delete`, `mdstore hold` and `mdstore log history`, on a database and on a server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import mdstore
from mdstore.cli.app import application
from mdstore.cli.exits import CannotStart, explain
from mdstore.client.client import Client
from mdstore.errors import FailedPrecondition, InvalidArgument, NotFound
from mdstore.store.store import Store
from mdstore.wire import nodes
from tests.store.log import followed
from tests.store.served import serving
from tests.store.writing import KINDS, get, get_one, put
from tests.v1.test_delete import NUMBER, Chain


def run(command: str, *arguments: str) -> Result:
    """What the whole `mdstore` does, as far as typer goes."""
    app: typer.Typer = application(command)
    return CliRunner().invoke(app, [command, *arguments])


def said(command: str, *arguments: str) -> str:
    result = run(command, *arguments)
    assert result.exit_code == 0, result.exception
    return result.output


def said_json(command: str, *arguments: str) -> Any:
    return json.loads(said(command, *arguments, "--json"))


@pytest.fixture
def local(url: str) -> Iterator[Client]:
    with mdstore.connect(url) as client:
        yield client


@pytest.fixture(params=["database", "server"])
def where(request: pytest.FixtureRequest, url: str) -> Iterator[str]:
    if request.param == "database":
        yield url
        return
    with Store.open(url) as store, serving(store) as port:
        yield f"grpc://127.0.0.1:{port}"


def test_delete_says_what_would_go_and_what_went(local: Client, where: str) -> None:
    chain = Chain(local)
    arguments = ["--store", where, "--artifact", str(chain.a[0]), "--execution", str(chain.e[0])]
    preview = said("delete", *arguments, "--dry-run")
    assert "would go: 1 artifacts, 1 executions, 2 events, 1 attributions, 1 associations" in preview
    assert f"was made from it: 2 artifacts ({chain.a[1]}, {chain.a[2]}), 1 executions ({chain.e[1]})" in preview
    assert len(get(local, "artifact", chain.a)) == 3
    refused = run("delete", *arguments, "--keep-used")
    assert isinstance(refused.exception, FailedPrecondition)
    assert "deleted: 1 artifacts" in said("delete", *arguments, "--reason", "test")
    assert [found.id for found in get(local, "artifact", chain.a)] == chain.a[1:]
    assert followed(local)[-1].changes.deleted_artifacts[0].reason == "test"


def test_scripts_read_numbers_also_where_they_are_zero(local: Client, where: str) -> None:
    chain = Chain(local)
    answer = said_json("delete", "--store", where, "--artifact", str(chain.a[2]), "--dry-run")
    assert (answer["seq"], answer["impact"]["artifacts"], answer["impact"]["executions"]) == ("0", "1", "0")
    assert (answer["impact"]["downstream_is_cut"], answer["impact"]["holds"]) == (False, [])
    assert answer["impact"]["context_ids"] == [str(chain.c[0])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hold_keeps_a_node_until_it_is_released(local: Client, where: str, kind: str) -> None:
    node_id = str(getattr(Chain(local).nodes, f"{kind}s")[0])
    named = ["--store", where, f"--{kind}", node_id]
    assert said("hold", "list", "--store", where) == "nothing is held\n"
    assert said("hold", "add", *named, "--name", "audit", "--reason", "case 7").startswith("held, in commit ")
    assert said("hold", "add", *named, "--name", "audit") == "held by 'audit' already\n"
    for listed in (said("hold", "list", *named), said("hold", "list", "--store", where)):
        assert listed.startswith(f"{kind} {node_id}  audit  since 20")
        assert listed.endswith(": case 7\n")
    (held,) = said_json("hold", "list", "--store", where)["holds"]
    assert (held["id"], held["name"], held["reason"]) == (node_id, "audit", "case 7")
    assert f"held by 'audit': {kind} {node_id} (case 7)" in said("delete", *named, "--dry-run")
    assert isinstance(run("delete", *named).exception, FailedPrecondition)
    assert said("hold", "release", *named) == "none was held by 'hold'\n"
    assert said_json("hold", "release", *named, "--name", "audit")["seq"] != "0"
    said("delete", *named)


def test_nodes_are_named_by_external_ids_too(local: Client, where: str) -> None:
    chain = Chain(local)
    put(local, "artifact", chain.nodes.new("artifact", external_id="cluster/ns/uid/step/model"))
    named = ["--store", where, "--artifact", "cluster/ns/uid/step/model"]
    said("hold", "add", *named)
    said("hold", "release", *named)
    assert "1 artifacts" in said("delete", *named)
    assert isinstance(run("delete", *named).exception, NotFound)


@pytest.mark.parametrize("kind", KINDS)
def test_the_history_of_a_node_goes_from_its_creation_to_its_end(local: Client, where: str, kind: str) -> None:
    chain = Chain(local)
    (node_id,) = put(local, kind, chain.nodes.new(kind, name="n", external_id="before"))
    image = get_one(local, kind, node_id)
    image.external_id = "after"
    image.custom_properties["x"].string_value = "y"
    put(local, kind, image)
    request = nodes.DeleteNodesRequest(
        nodes=[nodes.NodeRef(kind=NUMBER[kind], id=node_id)], actor="ada", reason="was wrong"
    )
    local.delete_nodes(request)
    named = ["--store", where, f"--{kind}", str(node_id)]
    created, changed, deleted = said("log", "history", *named).splitlines()
    assert created.endswith("created")
    assert changed.endswith("custom_properties.x, external_id")
    assert "delete ada" in deleted
    assert deleted.endswith("deleted: was wrong")
    lines = [json.loads(line) for line in said("log", "history", *named, "--json").splitlines()]
    assert [line.get(kind, {}).get("external_id") for line in lines] == ["before", "after", None]
    assert isinstance(run("log", "history", "--store", where, f"--{kind}", "999").exception, NotFound)


def test_a_history_longer_than_a_page_is_told_to_its_end(local: Client, url: str) -> None:
    chain = Chain(local)
    image = get_one(local, "artifact", chain.a[0])
    for number in range(120):
        image.custom_properties["x"].int_value = number
        put(local, "artifact", image)
    assert len(said("log", "history", "--store", url, "--artifact", str(chain.a[0])).splitlines()) == 121


@pytest.mark.parametrize("command", [["delete"], ["hold", "add"], ["hold", "release"], ["log", "history"]])
def test_what_names_no_node_is_refused(local: Client, url: str, command: list[str]) -> None:
    result = run(*command, "--store", url)
    assert isinstance(result.exception, CannotStart)
    assert "--artifact ID" in str(result.exception)


def test_a_history_is_of_one_node(url: str) -> None:
    assert isinstance(run("log", "history", "--store", url, "--artifact", "1", "--context", "1").exception, CannotStart)
    with mdstore.connect(url) as client, pytest.raises(InvalidArgument):
        client.history(nodes.HistoryRequest(id=1))


@pytest.mark.parametrize(
    "command",
    [
        ["delete", "--artifact", "9" * 30],
        ["hold", "add", "--context", str(2**63)],
        ["log", "history", "--artifact", "9" * 30],
        ["log", "history", "--artifact", str(-(2**64))],
        ["log", "show", "--from", "9" * 30],
    ],
    ids=" ".join,
)
def test_a_number_that_is_no_id_is_refused_in_a_line(local: Client, url: str, command: list[str]) -> None:
    result = run(*command, "--store", url)
    assert result.exit_code != 0
    assert result.exception is not None
    assert isinstance(result.exception, SystemExit) or explain(result.exception), repr(result.exception)
