"""`mdstore log`: is a store's change log whole, and what does it say?"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from google.protobuf.message import Message

from mdstore import redaction
from mdstore.cli import interrupt, named
from mdstore.cli.exits import CannotStart
from mdstore.client.connect import connect
from mdstore.wire import changes, nodes

BROKEN: Final = 1
"""Exit code when the log is not whole."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

Database = Annotated[
    str,
    typer.Option(
        "--database", metavar="URL", help="The store's database: sqlite:///FILE, postgresql://..., mysql://..."
    ),
]


@app.command()
def verify(database: Database) -> None:
    """Check that nothing in the log is missing or altered. Ends with 1 when something is.

    The check computes every hash again, so it also finds what was altered in the database with other tools. Servers may
    go on working meanwhile. Write the printed hash down elsewhere: a log that was rewritten from some position to its
    end is whole, and only has another hash.
    """
    # Here and not above: help should not wait for SQLAlchemy.
    from mdstore.store.database import open_database  # noqa: PLC0415
    from mdstore.store.store import reading  # noqa: PLC0415
    from mdstore.store.verification import verify as verify_log  # noqa: PLC0415

    with open_database(database, must_exist=True) as opened, reading(opened) as tx, progress("verifying") as advance:
        found = verify_log(tx, advance)
    for broken in found.breaks:
        typer.echo(f"commit {broken.seq}: {broken.what}" if broken.seq else broken.what)
    if found.breaks:
        typer.echo(f"the log of {redaction.shown(database)} is broken in {len(found.breaks)} places", err=True)
        raise typer.Exit(BROKEN)
    typer.echo(
        f"whole: {found.commits} commits, positions {found.first_seq} to {found.head_seq}, hash {found.head_hash.hex()}"
    )


@app.command()
def show(
    store: named.StoreUrl,
    from_seq: Annotated[int, typer.Option("--from", min=0, max=named.LARGEST, help="The first position to show.")] = 1,
    limit: Annotated[int, typer.Option(help="At most so many commits; 0 for all.")] = 20,
    *,
    full: Annotated[bool, typer.Option("--full", help="Also what each commit changed, as JSON, a line each.")] = False,
) -> None:
    """Show commits: position, time, who wrote, and what changed."""
    shown = 0
    with connect(store) as client:
        for response in client.follow(from_seq, once=True):
            for commit in response.commits:
                typer.echo(_as_json(commit) if full else _line(commit))
                shown += 1
                if shown == limit:
                    return


@app.command()
def history(
    store: named.StoreUrl,
    artifact: Annotated[
        int | None, typer.Option(metavar="ID", min=0, max=named.LARGEST, help="An artifact's id.")
    ] = None,
    execution: Annotated[
        int | None, typer.Option(metavar="ID", min=0, max=named.LARGEST, help="An execution's id.")
    ] = None,
    context: Annotated[int | None, typer.Option(metavar="ID", min=0, max=named.LARGEST, help="A context's id.")] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="What it was after each commit, as JSON, a line each.")
    ] = False,
) -> None:
    """Say what changed a node, also a deleted one: when, who, and what."""
    given = [
        (kind, node_id)
        for kind, node_id in ((nodes.ARTIFACT, artifact), (nodes.EXECUTION, execution), (nodes.CONTEXT, context))
        if node_id is not None
    ]
    if len(given) != 1:
        raise CannotStart("whose history? Name one node with --artifact ID, --execution ID or --context ID")
    request = nodes.HistoryRequest(kind=given[0][0], id=given[0][1])
    before: dict[str, Any] = {}
    with connect(store) as client:
        while True:
            response = client.history(request)
            for entry in response.entries:
                after = _image(entry)
                typer.echo(_as_json(entry) if as_json else _step(entry, before, after))
                before = after
            if not response.has_more:
                return
            request.after_seq = response.entries[-1].seq


@app.command()
def compact(
    database: Database,
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Commits older than this (UTC), but for what they led to."
        ),
    ] = None,
    up_to: Annotated[
        int | None, typer.Option(min=0, max=named.LARGEST, help="Or: all commits up to this position.")
    ] = None,
) -> None:
    """Replace old commits by what the store held after them. Servers may go on working meanwhile."""
    # Here and not above: help should not wait for SQLAlchemy.
    from mdstore.store.database import open_database  # noqa: PLC0415
    from mdstore.store.store import Store  # noqa: PLC0415

    if (before is None) == (up_to is None):
        raise CannotStart("how much of the log? Say either --before TIME or --up-to POSITION")
    with Store(open_database(database, must_exist=True)) as store, progress("compacting") as advance:
        if before is not None:
            up_to = store.position_before(int(before.replace(tzinfo=UTC).timestamp() * 1000))
            if up_to == 0:
                typer.echo(f"nothing is older than {before.isoformat()}")
                return
        found = store.compact(up_to or 0, lambda pages: advance(pages, 0))
    typer.echo(
        f"compacted: the log begins at {found.first_seq} with what the store held at {found.seq}; "
        f"{found.removed} commits are gone, hash {found.hash.hex()}"
    )


def _head(commit: changes.Commit | nodes.HistoryEntry) -> str:
    at = datetime.fromtimestamp(commit.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return f"{commit.seq:>8}  {at}  {f'{commit.origin} {commit.actor}'.rstrip():<12}"


def _line(commit: changes.Commit) -> str:
    counts = [
        f"{len(value)} {field.name.replace('_', ' ')}"
        for field, value in commit.changes.ListFields()
        if not field.name.startswith("created_")
    ]
    return f"{_head(commit)}  {', '.join(counts) or '-'}"


def _as_json(message: Message) -> str:
    from google.protobuf import json_format  # noqa: PLC0415 (rarely needed)

    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)


def _step(entry: nodes.HistoryEntry, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if entry.HasField("deletion"):
        what = "deleted" + (f": {entry.deletion.reason}" if entry.deletion.reason else "")
    elif entry.created:
        what = "created"
    else:
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        # Each image has its own time, which says no more than the commit does.
        what = ", ".join(name for name in changed if name != "last_update_time_since_epoch") or "-"
    return f"{_head(entry)}  {what}"


def _image(entry: nodes.HistoryEntry) -> dict[str, Any]:
    """What a node was, as text by the path of its field or property; empty when it was deleted."""
    image = next((getattr(entry, kind) for kind in ("artifact", "execution", "context") if entry.HasField(kind)), None)
    found: dict[str, Any] = {}
    for field, value in image.ListFields() if image is not None else ():
        if field.name in {"properties", "custom_properties"}:
            found.update({f"{field.name}.{name}": str(held) for name, held in value.items()})
        else:
            found[field.name] = str(value)
    return found


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar when a person looks on; nothing else. Gives what is told how much is done, and of how much."""
    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console  # noqa: PLC0415 (importing it takes as long as a small log)
    from rich.progress import Progress  # noqa: PLC0415

    interrupt.unwinding()  # a bar hides the cursor
    with Progress(console=Console(stderr=True)) as bar:
        task: Any = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of or None)
