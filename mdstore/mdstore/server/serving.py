"""Starting and stopping the server of one store: its gRPC port, and its HTTP port where one is wanted."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mdstore.client.poller import keep_poller
from mdstore.client.remote import SERVICE_FILES
from mdstore.errors import Unavailable
from mdstore.server.calls import Limits
from mdstore.server.dispatch import Dispatcher
from mdstore.server.hanging_up import hang_up
from mdstore.server.listening import check_free
from mdstore.server.meter import Meter
from mdstore.server.renewal import Certificates
from mdstore.server.service import StoreHandlers
from mdstore.server.traces import to_collector
from mdstore.store.store import Store
from mdstore.wire import POOL

log = structlog.get_logger()

DRAIN_S: Final = 6.0
"""What is under way has so long to end when the server stops."""
CLOSE_S: Final = 1.0
"""Then so long for its answer to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to serve, and how."""

    host: str = "127.0.0.1"
    grpc_port: int = 0
    """0 for a free one."""
    http_port: int | None = None
    """None for no HTTP, 0 for a free one."""
    cors_origins: tuple[str, ...] = ()
    tls: Certificates | None = None
    limits: Limits = Limits()  # noqa: RUF009 (frozen)
    access_log: float = 0.0
    traces_endpoint: str = ""
    traces_share: float = 1.0
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    """Of gRPC's core, such as `("grpc.max_metadata_size", 16384)`."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where calls are answered."""

    grpc: int
    http: int | None


def service_names() -> list[str]:
    """The full names of the store's services."""
    return [
        service.full_name for file in SERVICE_FILES for service in POOL.FindFileByName(file).services_by_name.values()
    ]


@contextlib.asynccontextmanager
async def serving(store: Store, plan: Plan) -> AsyncIterator[Ports]:
    """Answer calls inside the block. At its end, new calls are refused and what was accepted is finished.

    Args:
        store: stays open; the caller closes it.
        plan: what to serve.

    Raises:
        Unavailable: a port is taken or the address is not this machine's.
        InvalidArgument: traces are wanted and cannot be sent.
    """
    async with AsyncExitStack() as stack:
        traces = None
        if plan.traces_endpoint:
            traces = to_collector(plan.traces_endpoint, plan.traces_share)
            stack.callback(traces.close)
        dispatcher = Dispatcher(store, plan.limits, Meter(), access_log=plan.access_log, traces=traces)
        stack.push_async_callback(dispatcher.close)
        http_port = None
        if plan.http_port is not None:
            from mdstore.server.http import http_serving  # noqa: PLC0415 (uvicorn costs memory that few need)

            http = http_serving(dispatcher, plan.host, plan.http_port, cors_origins=plan.cors_origins, tls=plan.tls)
            http_port = await stack.enter_async_context(http)
        grpc_port = await stack.enter_async_context(_grpc_serving(dispatcher, plan))
        yield Ports(grpc_port, http_port)


@contextlib.asynccontextmanager
async def grpc_serving(store: Store, host: str, port: int) -> AsyncIterator[int]:
    """As `serving`, the gRPC port alone with everything else as it is by default; gives the port."""
    async with serving(store, Plan(host=host, grpc_port=port)) as ports:
        yield ports.grpc


@contextlib.asynccontextmanager
async def _grpc_serving(dispatcher: Dispatcher, plan: Plan) -> AsyncIterator[int]:
    options: dict[str, int | str] = {
        # Without this, a second server on the same port would share its calls instead of failing.
        "grpc.so_reuseport": 0,
        "grpc.max_receive_message_length": plan.limits.message_bytes,
        "grpc.max_send_message_length": plan.limits.message_bytes,
        **dict(plan.channel_arguments),
    }
    keep_poller()
    server = grpc.aio.server(options=tuple(options.items()))
    server.add_generic_rpc_handlers((StoreHandlers(dispatcher),))
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    names = service_names()
    reflection.enable_server_reflection(
        (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server, _EitherPool(POOL, descriptor_pool.Default())
    )
    address = f"[{plan.host}]:{plan.grpc_port}" if ":" in plan.host else f"{plan.host}:{plan.grpc_port}"
    check_free(plan.host, plan.grpc_port)
    try:
        if plan.tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, plan.tls.credentials())
    except RuntimeError as error:
        raise Unavailable(f"cannot listen on {address}: {error}") from error
    await server.start()
    for name in ("", *names):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield port
    finally:
        await healthy.enter_graceful_shutdown()
        # Before the port is closed: a call that comes now gets its answer, which is to try again elsewhere.
        insistent = await dispatcher.stop(DRAIN_S)
        hang_up(port, insistent)
        await server.stop(CLOSE_S)


class _EitherPool:
    """Two pools of descriptors as one, to look things up: ours has the store's services, protobuf's has gRPC's own."""

    def __init__(self, *pools: Any) -> None:
        self._pools = pools

    def __getattr__(self, name: str) -> Any:
        def find(*arguments: Any) -> Any:
            for pool in self._pools[:-1]:
                with contextlib.suppress(KeyError):
                    return getattr(pool, name)(*arguments)
            return getattr(self._pools[-1], name)(*arguments)

        return find


async def serve(store: Store, plan: Plan, *, on_ready: Callable[[Ports], None] = lambda _: None) -> None:
    """Answer calls until SIGTERM or SIGINT; then finish what was accepted.

    Args:
        store: stays open; the caller closes it.
        plan: what to serve.
        on_ready: called with the ports once calls are answered.

    Raises: as `serving`.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
    async with serving(store, plan) as ports:
        where = {"http": f"{plan.host}:{ports.http}"} if ports.http is not None else {}
        log.info("serving", address=f"{plan.host}:{ports.grpc}", **where)
        on_ready(ports)
        await stop.wait()
        log.info("stopping")
    log.info("stopped")
