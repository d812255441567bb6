"""The store's HTTP port: `/healthz`, for probes that do not speak gRPC."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mdstore.errors import MetadataError, Unavailable
from mdstore.store import change_log
from mdstore.store.store import Store


def application(store: Store) -> Starlette:
    """Answers 200 with the newest position when the database can be read, else 503 with the reason."""

    def healthz(_request: Request) -> JSONResponse:
        try:
            with store.reading() as tx:
                return JSONResponse({"status": "ok", "seq": change_log.head(tx).seq})
        except MetadataError as error:
            return JSONResponse({"status": "unavailable", "reason": str(error)}, status_code=503)

    return Starlette(routes=[Route("/healthz", healthz)])


@contextlib.asynccontextmanager
async def http_serving(store: Store, host: str, port: int) -> AsyncIterator[None]:
    """Serve HTTP inside the block.

    Raises:
        Unavailable: the port is taken.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}") from error
    config = uvicorn.Config(application(store), log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    # The gRPC side handles signals, and ends this one.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # no option for it
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
