"""What every client of a store can do: the RPCs of `calls`, tried again where that is safe, until it is closed."""

import asyncio
import time
from abc import abstractmethod
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message

from mdstore.client.calls import AsyncCalls, Calls
from mdstore.client.retry import PASSING, Retry, Tries
from mdstore.errors import FailedPrecondition


class Client(Calls):
    """A store, over gRPC or in this process: same methods, same results, same errors.

    Threads may share one client. Close it, or use it as a context manager.
    """

    def __init__(self, retry: Retry) -> None:
        """Call again as `retry` says."""
        self._retry = retry
        self._closed = False

    def _call(self, method: str, request: Message, timeout: float | None) -> Any:
        tries = Tries(self._retry, method, timeout)
        while True:
            self._check_open()
            try:
                return self._once(method, request, tries.left_s())
            except PASSING as error:
                pause = tries.pause_after(error)
            time.sleep(pause)

    @abstractmethod
    def _once(self, method: str, request: Message, timeout: float | None) -> Any:
        """Make one call, which may take `timeout` seconds."""

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition("this client is closed")

    def close(self) -> None:
        """Let go of connections and files. A call after this raises `FailedPrecondition`."""
        if not self._closed:
            self._closed = True
            self._release()

    @abstractmethod
    def _release(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(AsyncCalls):
    """The same for asyncio: same methods, same results, same errors.

    Cancelling an await cancels its call: a read is stopped, a write is done or not done as when a connection breaks.
    One event loop only. Close it, or use it as an asynchronous context manager.
    """

    def __init__(self, retry: Retry) -> None:
        """Call again as `retry` says."""
        self._retry = retry
        self._closed = False

    async def _call(self, method: str, request: Message, timeout: float | None) -> Any:
        tries = Tries(self._retry, method, timeout)
        while True:
            self._check_open()
            try:
                return await self._once(method, request, tries.left_s())
            except PASSING as error:
                pause = tries.pause_after(error)
            await asyncio.sleep(pause)

    @abstractmethod
    async def _once(self, method: str, request: Message, timeout: float | None) -> Any:
        """Make one call, which may take `timeout` seconds."""

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition("this client is closed")

    async def close(self) -> None:
        """Let go of connections and files. A call after this raises `FailedPrecondition`."""
        if not self._closed:
            self._closed = True
            await self._release()

    @abstractmethod
    async def _release(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
