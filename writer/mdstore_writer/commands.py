"""`mdstore writer`: records what happened on a cluster, live or from files."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import structlog
import typer

from mdstore.cli import interrupt
from mdstore.cli.exits import CannotStart
from mdstore.client.connect import connect
from mdstore_writer import quarantine as quarantined
from mdstore_writer import replay as replaying
from mdstore_writer.settings import WriterSettings

log = structlog.get_logger()

IN_QUARANTINE: Final = 3
"""Exit code of a replay of which something is in quarantine."""

app = typer.Typer(
    help="Observes clusters and event sources and records what happened.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

StoreUrl = Annotated[
    str, typer.Option("--store", metavar="URL", help="grpc://HOST:PORT, or a database URL to open it in this process.")
]
ClusterName = Annotated[
    str | None, typer.Option("--cluster", metavar="NAME", help="Name of the cluster in the keys of all records.")
]


def _settings(cluster: str | None) -> WriterSettings:
    return WriterSettings() if cluster is None else WriterSettings(cluster=cluster)


@app.command()
def replay(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of recorded watch events.")],
    store: StoreUrl,
    cluster: ClusterName = None,
) -> None:
    """Record the watch events in DIR/*.jsonl. Ends with 3 when something is in quarantine."""
    settings = _settings(cluster)
    try:
        folders = replaying.recordings(directories)
    except replaying.NothingToReplay as error:
        raise CannotStart(str(error)) from None
    with connect(store) as client, _bar(folders) as advance:
        summary = replaying.replay(client, folders, cluster=settings.cluster, progress=advance)
    typer.echo(f"recorded {len(summary.runs)} runs from {summary.events} events", err=True)
    if summary.quarantined:
        typer.echo(f"{summary.quarantined} in quarantine: mdstore writer quarantine --store {store}", err=True)
        raise typer.Exit(IN_QUARANTINE)


@contextmanager
def _bar(folders: list[Path]) -> Iterator[replaying.Progress]:
    """A progress bar when a person looks on; nothing else."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 (importing it takes as long as a small replay)
    from rich.progress import Progress  # noqa: PLC0415

    interrupt.unwinding()  # a bar hides the cursor
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("replaying", total=sum(map(replaying.count_lines, folders)))
        yield lambda lines: progress.advance(task, lines)


@app.command()
def watch(
    store: StoreUrl,
    namespaces: Annotated[
        list[str] | None, typer.Option("--namespace", metavar="NS", help="Only these; all when none is named.")
    ] = None,
    cluster: ClusterName = None,
) -> None:
    """Record what happens on your kubeconfig's or the pod's cluster."""
    from mdstore_writer.cluster import ClusterUnreachable, open_cluster  # noqa: PLC0415 (slow to import)
    from mdstore_writer.watch import Watcher  # noqa: PLC0415

    settings = _settings(cluster)
    stop = threading.Event()

    def stopping(number: int, _: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopping)
    try:
        api = open_cluster()
    except ClusterUnreachable as error:
        raise CannotStart(str(error)) from None
    with connect(store) as client:
        Watcher(client, api, settings, namespaces or [], stop).run()


@app.command()
def quarantine(store: StoreUrl) -> None:
    """List what could not be recorded: where it is, and why."""
    count = 0
    with connect(store) as client:
        for entry in quarantined.entries(client):
            count += 1
            typer.echo(f"{entry.place}: {entry.reason}")
            if entry.subject:
                typer.echo(f"    in {entry.subject}")
            if entry.raw:
                typer.echo(f"    {entry.raw[:200]}{'...' if len(entry.raw) > 200 else ''}")
    typer.echo(f"{count} in quarantine", err=True)
