"""`mdstore spool`: what steps logged while their store was away."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mdstore.cli.exits import CannotStart

app = typer.Typer(no_args_is_help=True, help="What steps logged while their store was away.")

Place = Annotated[
    Path | None, typer.Argument(help="A file, or a folder of them. [MDSTORE_SPOOL, else the user's state folder]")
]


@app.command("list")
def list_files(place: Place = None) -> None:
    """Say what waits: each file, when it was begun, for which store, how much of it was not sent."""
    from mdstore.steps import spool  # noqa: PLC0415 (grpc takes 0.2 s to import)

    count = 0
    for path in _files(place):
        count += 1
        try:
            found = spool.contents(path)
        except ValueError as error:
            typer.echo(f"{path}  unreadable: {error}")
            continue
        begun = datetime.fromtimestamp(found.started_ms / 1000, UTC).isoformat(timespec="seconds")
        torn = f", {found.torn_bytes} bytes cut off at the end" if found.torn_bytes else ""
        refused = (
            "refused by the store" if path.suffix == spool.REFUSED else f"{found.unsent} of {found.records} to send"
        )
        typer.echo(f"{path}  {begun}  {found.store or 'no store named'}  {refused}{torn}")
    if not count:
        typer.echo("nothing waits")


@app.command()
def replay(
    place: Place = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Send all to this store: grpc://HOST:PORT, or a database URL. By default each file goes to the store "
            "that it was meant for."
        ),
    ] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Also try again what the store refused.")] = False,
) -> None:
    """Send what waits, in order, and take away the files of which nothing is left."""
    from mdstore.client.connect import connect  # noqa: PLC0415 (as above)
    from mdstore.steps import deliver, spool  # noqa: PLC0415

    left = 0
    for path in _files(place):
        if path.suffix == spool.REFUSED and not refused:
            continue
        try:
            meant_for = spool.store_of(path)
        except ValueError as error:
            typer.echo(f"{path}: left as it is: {error}", err=True)
            left += 1
            continue
        url = store or meant_for
        if not url:
            raise CannotStart(f"{path} names no store: say --store URL")
        with connect(url) as client:
            try:
                result = deliver.replay(path, client)
            except spool.InUse as error:
                typer.echo(f"{error}: left to it", err=True)
                left += 1
                continue
        torn = f", {result.torn_bytes} bytes cut off at the end left out" if result.torn_bytes else ""
        kept = f", {result.refused} refused" if result.refused else ""
        left += bool(result.refused)
        typer.echo(f"{path}: {result.sent} sent{kept}{torn}")
    if left:
        raise typer.Exit(3)


def _files(place: Path | None) -> Iterator[Path]:
    from mdstore.steps import spool  # noqa: PLC0415 (as above)

    found = place if place is not None else spool.folder(os.environ.get("MDSTORE_SPOOL") or None)
    if found.is_file():
        yield found
        return
    if not found.is_dir():
        raise CannotStart(f"{found} is neither a file nor a folder")
    yield from spool.files(found)
    yield from sorted(found.glob(f"*{spool.REFUSED}"))
