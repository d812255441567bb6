"""`mdstore spool`: what steps logged while their store was away."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from mdstore.cli.exits import CannotStart
from mdstore.redaction import shown

LEFT: Final = 3
"""Exit code when something is left."""

app = typer.Typer(no_args_is_help=True, help="What steps logged while their store was away.")

Place = Annotated[
    Path | None, typer.Argument(help="A file, or a folder of them. [MDSTORE_SPOOL, else the user's state folder]")
]


@app.command("list")
def list_files(place: Place = None) -> None:
    """Say what waits: each file, since when, for which store, how much."""
    from mdstore.steps import spool  # noqa: PLC0415 (grpc takes 0.2 s to import)

    count = 0
    for path in _files(place):
        try:
            found = spool.contents(path)
        except FileNotFoundError:
            continue  # a step has sent it meanwhile
        except (ValueError, OSError) as error:
            count += 1
            typer.echo(f"{path}  unreadable: {error}")
            continue
        count += 1
        begun = datetime.fromtimestamp(found.started_ms / 1000, UTC).isoformat(timespec="seconds")
        torn = f", {found.torn_bytes} bytes cut off at the end" if found.torn_bytes else ""
        refused = (
            "refused by the store" if path.suffix == spool.REFUSED else f"{found.unsent} of {found.records} to send"
        )
        typer.echo(f"{path}  {begun}  {shown(found.store) if found.store else 'no store named'}  {refused}{torn}")
    for path in _leftovers(place):
        count += 1
        typer.echo(f"{path}  of a process that was killed; nothing in it to send, `mdstore spool replay` takes it away")
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
    """Send what waits, in order.

    Files of which nothing is left are taken away. Ends with 3 when something is left: what a store refuses, what is for
    a store that is away, what another process is writing.
    """
    from mdstore.client.connect import connect  # noqa: PLC0415 (as above)
    from mdstore.errors import MetadataError  # noqa: PLC0415
    from mdstore.steps import deliver, spool  # noqa: PLC0415

    count = left = 0
    away: set[str] = set()
    for path in _leftovers(place):
        count += 1
        path.unlink(missing_ok=True)
        typer.echo(f"{path}: nothing in it to send, taken away")
    for path in _files(place):
        if path.suffix == spool.REFUSED and not refused:
            continue
        try:
            meant_for = spool.store_of(path)
        except FileNotFoundError:
            continue  # a step has sent it meanwhile
        except (ValueError, OSError) as error:
            count += 1
            typer.echo(f"{path}: left as it is: {error}", err=True)
            left += 1
            continue
        count += 1
        url = store or meant_for
        if not url:
            raise CannotStart(f"{path} names no store: say --store URL")
        if url in away:
            left += 1
            continue
        try:
            with connect(url) as client:
                result = deliver.replay(path, client)
        except spool.InUse as error:
            typer.echo(f"{error}: left to it", err=True)
            left += 1
            continue
        except FileNotFoundError:
            continue  # as above
        except (ValueError, OSError) as error:
            typer.echo(f"{path}: left as it is: {error}", err=True)
            left += 1
            continue
        except MetadataError as error:
            # What is for other stores need not wait.
            typer.echo(f"{path} and what else is for {shown(url)}: left as it is: {error}", err=True)
            away.add(url)
            left += 1
            continue
        torn = f", {result.torn_bytes} bytes cut off at the end left out" if result.torn_bytes else ""
        kept = f", {result.refused} refused" if result.refused else ""
        left += bool(result.refused)
        typer.echo(f"{path}: {result.sent} sent{kept}{torn}")
    if not count:
        typer.echo("nothing waits")
    if left:
        raise typer.Exit(LEFT)


def _leftovers(place: Path | None) -> list[Path]:
    from mdstore.steps import spool  # noqa: PLC0415 (as above)

    found = place if place is not None else spool.folder(os.environ.get("MDSTORE_SPOOL") or None)
    return spool.leftovers(found) if found.is_dir() else []


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
