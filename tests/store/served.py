"""A real gRPC server on a free port of loopback, in a thread of this process, over a store that the test opened."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from mdstore.server.serving import grpc_serving
from mdstore.store.store import Store


@contextmanager
def serving(store: Store) -> Iterator[int]:
    """Answer calls inside the block; gives the port."""
    ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        try:
            async with grpc_serving(store, "127.0.0.1", 0) as port:
                ready.set_result((port, asyncio.get_running_loop(), stop))
                await stop.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    port, loop, stop = ready.result(10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive(), "the server does not stop"
