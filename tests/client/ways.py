"""The four ways to a store, made to look alike: waiting or asyncio, over gRPC or in this process."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import mdstore
from mdstore import Retry
from mdstore.client.client import AsyncClient, Client
from mdstore.client.retry import NEVER

T = TypeVar("T")
WAYS = ("waiting, in process", "waiting, over gRPC", "asyncio, in process", "asyncio, over gRPC")


class Way(Protocol):
    """A client, whatever its color."""

    def call(self, name: str, request: Any, timeout: float | None = None) -> Any: ...

    def stream(self, name: str, most: int | None = None, **arguments: Any) -> list[Any]:
        """The messages of a stream, until it ends or there are `most`."""

    def close(self) -> None: ...


class Waiting:
    def __init__(self, client: Client) -> None:
        self.client = client

    def call(self, name: str, request: Any, timeout: float | None = None) -> Any:
        return getattr(self.client, name)(request, timeout=timeout)

    def stream(self, name: str, most: int | None = None, **arguments: Any) -> list[Any]:
        found: list[Any] = []
        for message in getattr(self.client, name)(**arguments):
            found.append(message)
            if len(found) == most:
                break
        return found

    def close(self) -> None:
        self.client.close()


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.loop.close()


class Asynchronous:
    def __init__(self, client: AsyncClient, loop: Loop) -> None:
        self.client = client
        self.loop = loop

    def call(self, name: str, request: Any, timeout: float | None = None) -> Any:
        return self.loop.run(getattr(self.client, name)(request, timeout=timeout))

    def stream(self, name: str, most: int | None = None, **arguments: Any) -> list[Any]:
        async def read() -> list[Any]:
            found: list[Any] = []
            messages = getattr(self.client, name)(**arguments)
            try:
                async for message in messages:
                    found.append(message)
                    if len(found) == most:
                        break
            finally:
                await messages.aclose()
            return found

        return self.loop.run(read())

    def close(self) -> None:
        self.loop.run(self.client.close())


@contextmanager
def connected(way: str, database: str, port: int, *, retry: Retry = NEVER) -> Iterator[Any]:
    """A client of the database or of its server at `port`, in one of `WAYS`."""
    url = f"grpc://127.0.0.1:{port}" if way.endswith("over gRPC") else database
    if way.startswith("waiting"):
        with mdstore.connect(url, retry=retry) as client:
            yield Waiting(client)
        return
    loop = Loop()
    try:

        async def connect() -> AsyncClient:
            return await mdstore.connect_async(url, retry=retry)

        client = Asynchronous(loop.run(connect()), loop)
        try:
            yield client
        finally:
            client.close()
    finally:
        loop.close()
