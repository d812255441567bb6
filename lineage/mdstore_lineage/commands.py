"""`mdstore lineage`: the projector as a process."""

import signal
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mdstore.cli.exits import CannotStart
from mdstore.client.connect import connect
from mdstore_lineage.opening import open_graph
from mdstore_lineage.projector import Projector
from mdstore_lineage.settings import LineageSettings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def lineage() -> None:
    """Follow a store into a lineage graph."""


@app.command()
def follow(
    store: Annotated[
        str | None, typer.Option(help="The store, grpc://HOST:PORT or its database's URL. [MDSTORE_STORE]")
    ] = None,
    graph: Annotated[str | None, typer.Option(help="The lineage graph, sqlite:///FILE. [MDSTORE_GRAPH]")] = None,
) -> None:
    """Project a store's changes into a lineage graph, until stopped."""
    given: dict[str, Any] = {"store": store, "graph": graph}
    settings = LineageSettings(**{name: value for name, value in given.items() if value is not None})
    if not settings.store:
        raise CannotStart("which store? Say --store grpc://HOST:PORT, or set MDSTORE_STORE")
    if not settings.graph:
        raise CannotStart("which graph? Say --graph sqlite:///FILE, or set MDSTORE_GRAPH")
    is_stopping = _told_to_stop()
    connect(settings.store).close()  # a URL that never works is an error, while a server that is away is waited for
    opened = open_graph(settings.graph)
    try:
        Projector(lambda: connect(settings.store), opened, is_stopping=is_stopping).run()
    finally:
        opened.close()


def _told_to_stop() -> Callable[[], bool]:
    """Whether SIGTERM or SIGINT has come."""
    # A list and not a threading.Event: that one takes a lock, which the interrupted thread may be holding.
    came: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: came.append(number))
    return lambda: bool(came)
