"""`mdstore log`: is a store's change log whole, and what does it say?"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from mdstore.cli import interrupt
from mdstore.cli.exits import CannotStart
from mdstore.client.connect import connect
from mdstore.wire import changes

BROKEN: Final = 1
"""Exit code when the log is not whole."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

Database = Annotated[str, typer.Option("--database", metavar="URL", help="The store's database: sqlite:///FILE.")]


@app.command()
def verify(database: Database) -> None:
    """Check that nothing is missing from the log and nothing was altered. Ends with 1 when something was.

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
        typer.echo(f"the log of {database} is broken in {len(found.breaks)} places", err=True)
        raise typer.Exit(BROKEN)
    typer.echo(
        f"whole: {found.commits} commits, positions {found.first_seq} to {found.head_seq}, hash {found.head_hash.hex()}"
    )


@app.command()
def show(
    store: Annotated[str, typer.Option("--store", metavar="URL", help="grpc://HOST:PORT, or the database's URL.")],
    from_seq: Annotated[int, typer.Option("--from", help="The first position to show.")] = 1,
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
def compact(
    database: Database,
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Commits older than this (UTC), but for what they led to."
        ),
    ] = None,
    up_to: Annotated[int | None, typer.Option(help="Or: all commits up to this position.")] = None,
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


def _line(commit: changes.Commit) -> str:
    at = datetime.fromtimestamp(commit.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    who = f"{commit.origin} {commit.actor}".rstrip()
    counts = [
        f"{len(value)} {field.name.replace('_', ' ')}"
        for field, value in commit.changes.ListFields()
        if not field.name.startswith("created_")
    ]
    return f"{commit.seq:>8}  {at}  {who:<12}  {', '.join(counts) or '-'}"


def _as_json(commit: changes.Commit) -> str:
    from google.protobuf import json_format  # noqa: PLC0415 (rarely needed)

    return json_format.MessageToJson(commit, preserving_proto_field_name=True, indent=None)


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
