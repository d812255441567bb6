"""`mdstore delete`: take nodes away, or say first what would go with them."""

from collections.abc import Sequence
from typing import Annotated

import typer

from mdstore.cli import named
from mdstore.client.connect import connect
from mdstore.wire import nodes


def delete(
    store: named.StoreUrl,
    artifact: named.Artifacts = None,
    execution: named.Executions = None,
    context: named.Contexts = None,
    reason: Annotated[str, typer.Option(help="Why, for the change log.")] = "",
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing, say what would go.")] = False,
    keep_used: Annotated[
        bool, typer.Option("--keep-used", help="Refuse when anything that stays was made from what goes.")
    ] = False,
    as_json: named.AsJson = False,
) -> None:
    """Delete nodes with their properties, events and memberships, in one transaction."""
    request = nodes.DeleteNodesRequest(
        nodes=named.refs("delete", artifact, execution, context),
        dry_run=dry_run,
        actor=named.user(),
        reason=reason,
        only_without_downstream=keep_used,
    )
    with connect(store) as client:
        response = client.delete_nodes(request)
    if as_json:
        typer.echo(named.as_json(response))
        return
    typer.echo(_told(response.impact, "would go" if dry_run else "deleted"))
    if not dry_run:
        typer.echo(f"in commit {response.seq}")


def _told(impact: nodes.Impact, what: str) -> str:
    counts = ("artifacts", "executions", "contexts", "events", "attributions", "associations", "parent_contexts")
    lines = [
        f"{what}: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name in counts if (n := getattr(impact, name)))
    ]
    if impact.downstream_artifacts or impact.downstream_executions:
        more = "at least " if impact.downstream_is_cut else ""
        lines.append(
            f"stays, but was made from it: {more}{impact.downstream_artifacts} artifacts"
            f"{_some(impact.downstream_artifact_ids)}, {impact.downstream_executions} executions"
            f"{_some(impact.downstream_execution_ids)}"
        )
    if impact.contexts_touched:
        lines.append(f"contexts that lose members: {impact.contexts_touched}{_some(impact.context_ids)}")
    lines += [
        f"held by {held.name!r}: {named.HELD_KINDS[held.kind]} {held.id}" + (f" ({held.reason})" if held.reason else "")
        for held in impact.holds
    ]
    return "\n".join(lines)


def _some(ids: Sequence[int]) -> str:
    return f" ({', '.join(map(str, ids[:5]))}{', ...' if len(ids) > 5 else ''})" if ids else ""
