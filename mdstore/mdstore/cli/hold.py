"""`mdstore hold`: keep nodes from being deleted, each time under a name and for a reason, until that is released."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from mdstore.cli import named
from mdstore.client.connect import connect
from mdstore.wire import changes, nodes

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

Name = Annotated[
    str, typer.Option(help="The hold's name: a node may be held for several reasons, and goes when all are released.")
]


@app.command()
def add(
    store: named.StoreUrl,
    artifact: named.Artifacts = None,
    execution: named.Executions = None,
    context: named.Contexts = None,
    name: Name = "hold",
    reason: Annotated[str, typer.Option(help="Why, for who wants to delete it.")] = "",
    *,
    as_json: named.AsJson = False,
) -> None:
    """Keep nodes from being deleted.

    All of them, or none when one is not there.
    """
    refs = named.refs("hold", artifact, execution, context)
    with connect(store) as client:
        response = client.hold_nodes(nodes.HoldNodesRequest(nodes=refs, name=name, reason=reason, actor=named.user()))
    if as_json:
        typer.echo(named.as_json(response))
    else:
        typer.echo(f"held, in commit {response.seq}" if response.seq else f"held by {name!r} already")


@app.command()
def release(
    store: named.StoreUrl,
    artifact: named.Artifacts = None,
    execution: named.Executions = None,
    context: named.Contexts = None,
    name: Name = "hold",
    *,
    as_json: named.AsJson = False,
) -> None:
    """Take the hold of a name away from nodes."""
    refs = named.refs("release", artifact, execution, context)
    with connect(store) as client:
        response = client.release_nodes(nodes.ReleaseNodesRequest(nodes=refs, name=name, actor=named.user()))
    if as_json:
        typer.echo(named.as_json(response))
    else:
        typer.echo(f"released, in commit {response.seq}" if response.seq else f"none was held by {name!r}")


@app.command("list")
def list_holds(
    store: named.StoreUrl,
    artifact: named.Artifacts = None,
    execution: named.Executions = None,
    context: named.Contexts = None,
    *,
    as_json: named.AsJson = False,
) -> None:
    """Say what is held.

    Of the nodes that are named, or of the whole store.
    """
    refs = named.refs("list", artifact, execution, context) if artifact or execution or context else []
    with connect(store) as client:
        response = client.list_holds(nodes.ListHoldsRequest(nodes=refs))
    if as_json:
        typer.echo(named.as_json(response))
        return
    for held in response.holds:
        typer.echo(_line(held))
    if not response.holds:
        typer.echo("nothing is held")


def _line(held: changes.Hold) -> str:
    at = datetime.fromtimestamp(held.time_ms / 1000, UTC).isoformat(timespec="seconds")
    who = f" by {held.actor}" if held.actor else ""
    why = f": {held.reason}" if held.reason else ""
    return f"{named.HELD_KINDS[held.kind]} {held.id}  {held.name}  since {at}{who}{why}"
