"""`mdstore serve`: the store as a server."""

from typing import Annotated, Any

import typer

from mdstore.cli.exits import CannotStart
from mdstore.services import Plan, Service


def serve(
    database: Annotated[
        str | None,
        typer.Option(help="The database's URL: sqlite:///FILE, postgresql://..., mysql://... [MDSTORE_DATABASE]"),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="Port of MLMD's gRPC service; 0 for a free one. [MDSTORE_GRPC_PORT, 8080]")
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port of grpc-web, /healthz and /metrics. [MDSTORE_HTTP_PORT]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [MDSTORE_HOST, 127.0.0.1]")] = None,
) -> None:
    """Answer ML Metadata's gRPC calls from a database until stopped."""
    # Here and not above: only this command needs the server, and it is slow to import.
    import asyncio  # noqa: PLC0415

    from mdstore.server.serving import serve as serve_until_stopped  # noqa: PLC0415
    from mdstore.server.settings import ServeSettings  # noqa: PLC0415
    from mdstore.store.chores import doing_chores  # noqa: PLC0415
    from mdstore.store.store import Store  # noqa: PLC0415

    given: dict[str, Any] = {"database": database, "grpc_port": grpc_port, "http_port": http_port, "host": host}
    settings = ServeSettings(**{name: value for name, value in given.items() if value is not None})
    if not settings.database:
        raise CannotStart(
            "which database? Set --database or MDSTORE_DATABASE to sqlite:///FILE, postgresql://... or mysql://..."
        )
    plan = settings.plan()
    with (
        Store.open(settings.database, keep_answers_s=settings.keep_answers_s, bootstraps_later=True) as store,
        doing_chores(store, settings.reconcile_s),
    ):
        asyncio.run(serve_until_stopped(store, plan))


def service(plan: Plan) -> Service:
    """The store on this machine, for `mdstore up`."""
    return Service(
        name="store",
        arguments=("serve", "--database", plan.database_url, "--grpc-port", str(plan.grpc_port)),
        ready_port=plan.grpc_port,
    )
