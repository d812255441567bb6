"""A store in this process: same methods, same results, same errors as over gRPC."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from google.protobuf.message import Message

from mdstore.client import once
from mdstore.client.client import AsyncClient, Client
from mdstore.client.retry import Retry
from mdstore.errors import Cancelled, DeadlineExceeded, InvalidArgument, Unavailable, Unimplemented
from mdstore.store.interruption import Interruption
from mdstore.store.requests import Call
from mdstore.store.rpcs import Mode
from mdstore.store.store import Bell, Store
from mdstore.wire import changes

POLL_S: Final = 0.05
"""How long a commit of another process on the same database, or the end of a stream's reader, stays unseen."""
READ_THREADS: Final = 4


def open_local(url: str, retry: Retry) -> Client:
    """Open the database at `url` in this process; raises as `mdstore.connect`."""
    return LocalClient(Store.open(url), retry)


async def open_local_async(url: str, retry: Retry) -> AsyncClient:
    """Open the database at `url` in this process, without stopping the event loop meanwhile; raises as `open_local`."""
    return AsyncLocalClient(await asyncio.to_thread(Store.open, url), retry)


class LocalClient(Client):
    """A client that is the store. Threads may share it."""

    def __init__(self, store: Store, retry: Retry) -> None:
        """Own an open store: closing the client closes it."""
        super().__init__(retry)
        self._store = store

    def _once(self, method: str, request: Message, timeout: float | None) -> Any:
        with _errors_as_over_grpc():
            rpc = self._store.find(method)
            if rpc.mode is Mode.WRITE:
                future = self._store.submit(rpc, request, _deadline(timeout), _call())
                try:
                    return future.result(timeout)
                except TimeoutError:
                    future.cancel()
                    raise _too_late() from None
            if timeout is None:
                return self._store.read(rpc, request)
            interruption = Interruption()
            alarm = threading.Timer(timeout, interruption.stop)
            alarm.start()
            deadline = time.monotonic() + timeout
            try:
                return self._store.read(rpc, request, interruption)
            except (Cancelled, Unavailable):
                if time.monotonic() < deadline:
                    raise
                raise _too_late() from None
            finally:
                alarm.cancel()

    def _stream(self, method: str, request: Message) -> Iterator[Any]:
        self._check_open()
        yield from _messages(self._store, method, request, threading.Event())

    def _release(self) -> None:
        self._store.close()


class AsyncLocalClient(AsyncClient):
    """The same for asyncio: what reads or waits does so on threads."""

    def __init__(self, store: Store, retry: Retry) -> None:
        """Own an open store: closing the client closes it."""
        super().__init__(retry)
        self._store = store
        self._threads = ThreadPoolExecutor(READ_THREADS, "mdstore-client")

    async def _once(self, method: str, request: Message, timeout: float | None) -> Any:
        with _errors_as_over_grpc():
            rpc = self._store.find(method)
            interruption = Interruption()
            if rpc.mode is Mode.WRITE:
                answer = asyncio.wrap_future(self._store.submit(rpc, request, _deadline(timeout), _call()))
            else:
                loop = asyncio.get_running_loop()
                answer = loop.run_in_executor(self._threads, self._store.read, rpc, request, interruption)
            try:
                async with asyncio.timeout(timeout):
                    return await answer
            except TimeoutError:
                self._stop(interruption)
                raise _too_late() from None
            except asyncio.CancelledError:
                self._stop(interruption)
                raise

    def _stop(self, interruption: Interruption) -> None:
        if self._store.database.dialect.reads_inline:
            interruption.stop()
        else:
            # It connects to the database's server, for which the event loop must not wait.
            threading.Thread(target=interruption.stop, name="mdstore-stop", daemon=True).start()

    async def _stream(self, method: str, request: Message) -> AsyncGenerator[Any, None]:
        self._check_open()
        stopped = threading.Event()
        messages = _messages(self._store, method, request, stopped)
        # One thread for the whole stream: a snapshot's connection and its moment belong together.
        thread = ThreadPoolExecutor(1, "mdstore-stream")
        loop = asyncio.get_running_loop()
        try:
            while (message := await loop.run_in_executor(thread, next, messages, None)) is not None:
                yield message
        finally:
            stopped.set()
            await loop.run_in_executor(thread, messages.close)
            thread.shutdown(wait=False)

    async def _release(self) -> None:
        await asyncio.to_thread(self._store.close)
        self._threads.shutdown(wait=False)


def _messages(store: Store, method: str, request: Any, stopped: threading.Event) -> Generator[Any, None, None]:
    """The messages of a stream, as a generator that ends when `stopped` is set."""
    match method.rpartition("/")[2]:
        case "Follow":
            return _follow(store, request, stopped)
        case "Snapshot":
            return _snapshot(store, request)
        case name:
            raise Unimplemented(f"{name} is not implemented")


def _follow(store: Store, request: changes.FollowRequest, stopped: threading.Event) -> Generator[Any, None, None]:
    bell = Bell(store)
    seq, behind = max(1, request.from_seq), b""
    first = True
    try:
        while not stopped.is_set():
            page = store.follow_page(seq, request.max_commits, behind=behind)
            if page.commits or first:
                # The first one even when empty: the reader learns the head and the store's identity.
                yield changes.FollowResponse.FromString(page.SerializeToString())
            first = False
            if page.commits:
                seq, behind = page.commits[-1].seq + 1, page.commits[-1].hash
            if seq > page.head_seq:
                if request.once:
                    return
                bell.wait(POLL_S)
    finally:
        bell.close()


def _snapshot(store: Store, request: changes.SnapshotRequest) -> Generator[Any, None, None]:
    yield from store.snapshot(request.at_seq)


def _call() -> Call | None:
    key = once.current_key()
    return Call(idempotency_key=key) if key else None


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the caller's time was over before the store had answered")


@contextmanager
def _errors_as_over_grpc() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"a text of the request is not UTF-8: {error}") from error
