"""A real server on free ports of loopback, in a thread of this process."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from mdstore.server.serving import Plan, Ports, serving
from mdstore.store.store import Store


class Server:
    """Where it answers, and how to stop it before the end of the block."""

    def __init__(self, ports: Ports, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        self.ports = ports
        self._loop = loop
        self._stop = stop

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    def stop(self) -> None:
        """Begin to stop."""
        self._loop.call_soon_threadsafe(self._stop.set)


@contextmanager
def running(store: Store, plan: Plan) -> Iterator[Server]:
    """Answer calls inside the block."""
    ready: Future[Server] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        try:
            async with serving(store, plan) as ports:
                ready.set_result(Server(ports, asyncio.get_running_loop(), stop))
                await stop.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    server = ready.result(20)
    try:
        yield server
    finally:
        if thread.is_alive():
            server.stop()
        thread.join(15)
        assert not thread.is_alive(), "the server does not stop"
