"""The store's HTTP port: grpc-web for browsers, `/healthz` for probes, `/metrics` for Prometheus."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mdstore.errors import MetadataError
from mdstore.server.dispatch import Dispatcher
from mdstore.server.grpcweb import REQUEST_HEADERS, RESPONSE_HEADERS, GrpcWeb
from mdstore.server.listening import listen
from mdstore.server.renewal import Certificates

PREFLIGHT_S: Final = 600
"""How long a browser may remember that it was allowed to call."""


def application(
    dispatcher: Dispatcher, *, cors_origins: Sequence[str] = (), tls: Certificates | None = None
) -> Starlette:
    """The HTTP port of one store.

    Args:
        dispatcher: answers the calls.
        cors_origins: pages that may call from elsewhere, as `https://HOST:PORT`, or "*" for all; a page of the same
            origin always may.
        tls: what the metrics say about certificates.
    """

    # Plain functions: Starlette runs them on a thread, as what waits for the database should be.
    def healthz(_request: Request) -> JSONResponse:
        if dispatcher.stopping:
            return JSONResponse({"status": "unavailable", "reason": "the server is stopping"}, status_code=503)
        try:
            return JSONResponse({"status": "ok", "seq": dispatcher.store.head_seq()})
        except MetadataError as error:
            return JSONResponse({"status": "unavailable", "reason": str(error)}, status_code=503)

    @cache
    def exposition() -> Any:
        from mdstore.server.metrics import Exposition  # noqa: PLC0415 (a server that nobody scrapes saves its memory)

        return Exposition(dispatcher, tls)

    def metrics(request: Request) -> Response:
        content, content_type = exposition().text(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    middleware = []
    if cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=cors_origins,
                allow_methods=("POST",),
                allow_headers=REQUEST_HEADERS,
                expose_headers=RESPONSE_HEADERS,
                max_age=PREFLIGHT_S,
            )
        )
    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/metrics", metrics),
            Route("/{service}/{method}", GrpcWeb(dispatcher).answer, methods=["POST"]),
        ],
        middleware=middleware,
    )


@contextlib.asynccontextmanager
async def http_serving(
    dispatcher: Dispatcher, host: str, port: int, *, cors_origins: Sequence[str] = (), tls: Certificates | None = None
) -> AsyncIterator[int]:
    """Serve HTTP inside the block; gives the port.

    Raises:
        Unavailable: the port is taken.
    """
    listener = listen(host, port)
    # Connections inherit it. asyncio sets it only on sockets that were made with a protocol number, and without it the
    # second part of an answer waits 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        application(dispatcher, cors_origins=cors_origins, tls=tls),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,  # what was accepted has ended before
    )
    config.load()
    if tls is not None:
        config.ssl = tls.context()
    server = uvicorn.Server(config)
    # The gRPC side handles signals, and ends this one.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # no option for it
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await task
