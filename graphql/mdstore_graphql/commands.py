"""`mdstore graphql`: the API as a process, and its schema as text."""

import contextlib
import os
import signal
import socket
import threading
import time
from typing import Annotated, Any, Final

import structlog
import typer

from mdstore.cli.exits import CannotStart
from mdstore_graphql.settings import GraphQLSettings

log = structlog.get_logger()

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

GRACE_S: Final = 1
"""How long requests may still take once the server is told to stop."""
IDLE_S: Final = 0.5
"""How long threads may take to end that have nothing to do."""


@app.callback()
def graphql() -> None:
    """Answer questions about artifacts, executions, runs and lineage."""


@app.command()
def schema() -> None:
    """Print the schema in GraphQL's definition language."""
    from mdstore_graphql.schema import sdl  # noqa: PLC0415 - takes a second, which a mistyped flag need not wait for

    typer.echo(sdl(), nl=False)


@app.command()
def serve(
    database: Annotated[
        str | None,
        typer.Option(help="The store's database: sqlite:///FILE, postgresql://... or mysql://... [MDSTORE_DATABASE]"),
    ] = None,
    graph: Annotated[str | None, typer.Option(help="The lineage graph, sqlite:///FILE. [MDSTORE_GRAPH]")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port; 0 for a free one. [MDSTORE_HTTP_PORT, 8000]")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [MDSTORE_HOST, 127.0.0.1]")] = None,
) -> None:
    """Serve `/graphql` and `/healthz` until stopped."""
    given: dict[str, Any] = {"database": database, "graph": graph, "http_port": http_port, "host": host}
    settings = GraphQLSettings(**{name: value for name, value in given.items() if value is not None})
    if not settings.database:
        raise CannotStart(
            "which database? Set --database or MDSTORE_DATABASE to sqlite:///FILE, postgresql://... or mysql://..."
        )
    if not settings.graph:
        raise CannotStart("which graph? Say --graph sqlite:///FILE, or set MDSTORE_GRAPH")
    _serve(settings)


def _serve(settings: GraphQLSettings) -> None:
    # In the order of what is most often wrong, and each import only when it is needed: together they take seconds.
    listener = _listen(settings.host, settings.http_port)

    from mdstore.store.reader import Reader  # noqa: PLC0415
    from mdstore.vocabulary import ContextRoles  # noqa: PLC0415
    from mdstore_lineage.opening import open_graph  # noqa: PLC0415

    roles = ContextRoles.default()
    with Reader.open(settings.database) as reader, contextlib.closing(open_graph(settings.graph, roles)) as graph:
        import uvicorn  # noqa: PLC0415

        from mdstore_graphql.app import READS, Sources, application  # noqa: PLC0415
        from mdstore_graphql.walks import GraphSource  # noqa: PLC0415

        config = uvicorn.Config(
            application(Sources(reader, GraphSource(lambda: graph), roles), settings),
            log_config=None,  # ours is set up already
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        host, port = listener.getsockname()[:2]
        log.info("serving GraphQL", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/graphql")
        _end_in_order()
        with contextlib.suppress(SystemExit):
            uvicorn.Server(config).run(sockets=[listener])
        _leave_reads_behind(READS)


def _end_in_order() -> None:
    """Exit with 0 on SIGINT and SIGTERM: uvicorn raises the signal again once it has shut down."""

    def leave(*_: object) -> None:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)


def _leave_reads_behind(prefix: str) -> None:
    """End now if a read still runs: Python would wait for its thread, and a walk may take its time."""
    until = time.monotonic() + IDLE_S
    for thread in threading.enumerate():
        if thread.name.startswith(prefix):
            thread.join(max(0, until - time.monotonic()))
            if thread.is_alive():
                log.info("ended before a read did")
                os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: taken before anything else, so that a busy port is said in one line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise CannotStart(f"cannot listen on {host} port {port}: {reason}; name another one with --http-port") from None
    # Connections inherit it. asyncio sets it only on sockets that were made with a protocol number, and without it the
    # second part of an answer waits 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
