"""gRPC's side of the store: which handler answers which method, on which thread the work is done, how errors are said.

Point reads are answered on the event loop itself, where they are over sooner than a thread would be woken; what may
take long goes to a small pool; writes go to the store's one writer. This module alone knows about the loop.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import structlog

from mdstore.client.remote import SERVICE_FILES
from mdstore.errors import STATUS, InvalidArgument, MetadataError, Unimplemented
from mdstore.store.rpcs import Mode, Rpc
from mdstore.store.store import Store, read_transaction
from mdstore.wire import changes, methods

log = structlog.get_logger()

FOLLOW_POLL_S: Final = 0.05
"""How long a commit of another process on the same database stays unseen."""
SCAN_THREADS: Final = 4

Handler = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]
Stream = Callable[[Any], AsyncIterator[Any]]


class StoreHandlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Handlers for every method of the store's services."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        """Answer from `store`, on `loop`."""
        self._store = store
        self._loop = loop
        self._pool = ThreadPoolExecutor(SCAN_THREADS, "mdstore-scan")
        self._connection = store.database.connect()
        self._committed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._stop_listening = store.on_commit(self._wake_followers)
        self._handlers: dict[str, Any] = {}
        for file in SERVICE_FILES:
            for path, request, response, streams in methods(file):
                self._handlers[path] = (
                    self._streaming(path, request) if streams else self._unary(path, request, response)
                )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a method, or None, which gRPC answers with UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)

    def _wake_followers(self, _seq: int) -> None:
        self._loop.call_soon_threadsafe(self._committed.set)

    def stop(self) -> None:
        """End the streams, so that the server can stop."""
        self._stopping.set()
        self._committed.set()

    def close(self) -> None:
        """Let go of threads and connections, once no call is under way."""
        self._stop_listening()
        self._pool.shutdown()
        self._connection.close()

    def _unary(self, path: str, request: Any, response: Any) -> Any:
        try:
            rpc = self._store.find(path)
        except Unimplemented as error:
            handler = _refusing(error)
        else:
            answer = {Mode.WRITE: self._write, Mode.POINT: self._point, Mode.SCAN: self._scan}[rpc.mode]
            handler = _answering(path, rpc, answer)
        return grpc.unary_unary_rpc_method_handler(
            handler, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )

    async def _write(self, rpc: Rpc, request: Any) -> Any:
        # Shielded: when the caller gives up, the write that was accepted is done all the same.
        return await asyncio.shield(asyncio.wrap_future(self._store.submit(rpc, request), loop=self._loop))

    async def _point(self, rpc: Rpc, request: Any) -> Any:
        with read_transaction(self._connection, self._store.database.dialect) as tx:
            return rpc.operation(tx, request)

    async def _scan(self, rpc: Rpc, request: Any) -> Any:
        return await self._loop.run_in_executor(self._pool, self._store.read, rpc, request)

    def _streaming(self, path: str, request: Any) -> Any:
        streams: dict[str, tuple[Stream, Any]] = {
            "/mdstore.v1.ChangeFeed/Follow": (self._follow, changes.PackedFollowResponse),
            "/mdstore.v1.ChangeFeed/Snapshot": (self._snapshot, changes.SnapshotResponse),
        }
        handler, response = streams[path]
        return grpc.unary_stream_rpc_method_handler(
            _streaming(path, handler),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )

    async def _follow(self, request: changes.FollowRequest) -> AsyncIterator[changes.PackedFollowResponse]:
        seq = max(1, request.from_seq)
        first = True
        while not self._stopping.is_set():
            self._committed.clear()
            page = await self._loop.run_in_executor(self._pool, self._store.follow_page, seq, request.max_commits)
            if page.commits:
                seq = page.commits[-1].seq + 1
                yield page
            elif first:
                # An empty message: the caller learns the head and the store's identity before anything happens.
                yield page
            first = False
            if seq > page.head_seq:
                if request.once:
                    return
                await self._wait_for_commit()

    async def _wait_for_commit(self) -> None:
        try:
            await asyncio.wait_for(self._committed.wait(), FOLLOW_POLL_S)
        except TimeoutError:
            return

    async def _snapshot(self, request: changes.SnapshotRequest) -> AsyncIterator[changes.SnapshotResponse]:
        pages = self._store.snapshot(request.at_seq)
        # One thread for the whole stream: its connection and its moment belong together.
        with ThreadPoolExecutor(1, "mdstore-snapshot") as thread:
            try:
                while (page := await self._loop.run_in_executor(thread, next, pages, None)) is not None:
                    yield page
            finally:
                await self._loop.run_in_executor(thread, pages.close)  # type: ignore[attr-defined]  # a generator


def _answering(path: str, rpc: Rpc, answer: Callable[[Rpc, Any], Awaitable[Any]]) -> Handler:
    async def handler(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await answer(rpc, request)
        except Exception as error:
            await _abort(path, context, error)

    return handler


def _refusing(error: MetadataError) -> Handler:
    async def handler(_request: Any, context: grpc.aio.ServicerContext) -> Any:
        await context.abort(STATUS[type(error)].grpc, str(error))

    return handler


def _streaming(path: str, answer: Stream) -> Any:
    async def handler(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        try:
            async for message in answer(request):
                yield message
        except Exception as error:
            await _abort(path, context, error)

    return handler


async def _abort(path: str, context: grpc.aio.ServicerContext, error: Exception) -> None:
    if isinstance(error, UnicodeDecodeError):
        error = InvalidArgument(f"a text of the request is not UTF-8: {error}")
    if isinstance(error, MetadataError):
        await context.abort(STATUS[type(error)].grpc, str(error) or type(error).__name__)
    log.error("failed", method=path, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, f"{path.rpartition('/')[2]} failed in the server; see its log")
