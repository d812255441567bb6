"""Starting and stopping the gRPC server of one store."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mdstore.client.remote import MESSAGE_BYTES
from mdstore.errors import Unavailable
from mdstore.server.service import StoreHandlers
from mdstore.store.store import Store

log = structlog.get_logger()

GRACE_S: Final = 2.0
"""What is under way has so long to end when the server stops."""


def check_free(host: str, port: int) -> None:
    """Raise Unavailable when the port is taken: gRPC would print lines of its own before it says so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}") from error


@contextlib.asynccontextmanager
async def grpc_serving(store: Store, host: str, port: int) -> AsyncIterator[int]:
    """Answer gRPC calls inside the block; gives the port. At its end, what was accepted is finished.

    Args:
        store: stays open; the caller closes it.
        host: address to listen on.
        port: 0 for a free one.

    Raises:
        Unavailable: the port is taken or the address is not this machine's.
    """
    server = grpc.aio.server(
        options=[
            # Without this, a second server on the same port would share its calls instead of failing.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
        ]
    )
    handlers = StoreHandlers(store, asyncio.get_running_loop())
    try:
        server.add_generic_rpc_handlers((handlers,))
        healthy = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        check_free(host, port)
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {address}: {error}") from error
        await server.start()
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
        try:
            yield bound
        finally:
            await healthy.enter_graceful_shutdown()
            handlers.stop()
            await server.stop(GRACE_S)
    finally:
        handlers.close()


async def serve(
    store: Store,
    host: str,
    port: int,
    *,
    http_port: int | None = None,
    on_ready: Callable[[int], None] = lambda _: None,
) -> None:
    """Answer calls until SIGTERM or SIGINT; then finish what was accepted.

    Args:
        store: stays open; the caller closes it.
        host: address to listen on.
        port: 0 for a free one.
        http_port: for `/healthz`; None for no HTTP.
        on_ready: called with the port once calls are answered.

    Raises:
        Unavailable: the port is taken or the address is not this machine's.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        if http_port is not None:
            from mdstore.server.http import http_serving  # noqa: PLC0415 (uvicorn costs memory that few need)

            await stack.enter_async_context(http_serving(store, host, http_port))
        bound = await stack.enter_async_context(grpc_serving(store, host, port))
        log.info("serving", address=f"{host}:{bound}")
        on_ready(bound)
        await stop.wait()
        log.info("stopping")
    log.info("stopped")
