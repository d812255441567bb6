"""Answers calls, whatever transport they came by: what is allowed in, which thread does the work, how errors are said.

Point reads and pages are answered on the event loop itself, where they are over sooner than a thread would be woken: of
SQLite at once, of the others while the loop goes on (`loop_reads.py`). What may take long goes to a small pool, where
clients take turns; writes go to the store's one writer. This module alone decides that.

A caller that goes away, or whose deadline passes, takes its read along, and its write while that still waits for its
turn. A write whose turn has come is finished.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from google.protobuf.message import DecodeError

from mdstore.client.remote import SERVICE_FILES
from mdstore.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    MetadataError,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from mdstore.server import refusals
from mdstore.server.calls import Caller, Limits, Method
from mdstore.server.feeds import Feeds
from mdstore.server.meter import Meter
from mdstore.server.traces import Traces
from mdstore.server.turns import Turns
from mdstore.store.interruption import Interruption, TimeLimit
from mdstore.store.requests import Call
from mdstore.store.rpcs import Mode, Rpc
from mdstore.store.store import Store, read_transaction
from mdstore.wire import methods

if TYPE_CHECKING:
    from mdstore.server.loop_reads import LoopReads

log = structlog.get_logger()

T = TypeVar("T")

SCAN_THREADS: Final = 8
"""For a database behind a network: they mostly wait for it."""
INLINE_SCAN_THREADS: Final = 2
"""For a database in this process. More read no faster, since Python runs one at a time, and each makes the loop wait.

A point read beside four takes 8 ms, and beside two 0.5.
"""
LOOP_READS: Final = 8
"""On the loop at the same time, each with a connection of its own."""
SIDE_THREADS: Final = 2
"""For what must not wait behind long reads: followers of the log, and parsing."""
INLINE_BYTES: Final = 16 * 1024
"""A point read with a larger request asks for so much that the others should not wait for it."""
LOOP_BYTES: Final = 1024
"""The same, where the loop cannot begin anew after a while."""
INLINE_S: Final = 0.02
"""A point read or a page that takes longer is begun anew on a thread."""
PARSE_BYTES: Final = 1024 * 1024
"""A larger request is parsed on a thread."""
QUIET_S: Final = 0.1
QUIET_AT_LAST_S: Final = 0.5
"""A client that does not stop to call is not waited for."""
HINT_MS: Final = 200
"""When to try again what is over a limit: a full queue is worked off in about that time."""


class Dispatcher:
    """The calls of one store. Threads: belongs to the event loop."""

    def __init__(
        self, store: Store, limits: Limits, meter: Meter, *, access_log: float = 0.0, traces: Traces | None = None
    ) -> None:
        """Answer from `store`.

        Args:
            store: stays open; the caller closes it.
            limits: what is over them is refused.
            meter: where calls and commits are counted.
            access_log: the share of the calls that are logged, 0.0 to 1.0.
            traces: where calls are reported as spans; None for nowhere.
        """
        self.store = store
        self.limits = limits
        self.meter = meter
        self._access_log = access_log
        self._traces = traces
        self._loop = asyncio.get_running_loop()
        self._inline = store.database.dialect.reads_inline
        """A read of another database waits for a network, which the loop must not."""
        threads = INLINE_SCAN_THREADS if self._inline else SCAN_THREADS
        self._scans = ThreadPoolExecutor(threads, "mdstore-scan")
        self._turns = Turns(threads)
        self._loop_turns = Turns(LOOP_READS)
        self._side = ThreadPoolExecutor(SIDE_THREADS, "mdstore-side")
        self.feeds = Feeds(store, self._side)
        self._connection = store.database.connect() if self._inline else None
        self._time_limit = TimeLimit(self._connection) if self._inline else None
        self._loop_reads = self._reads_on_loop() if store.database.dialect.waits_by_function else None
        self._stop_measuring = store.on_group(meter.committed)
        self.calls = 0
        """Unary calls that are under way."""
        self._client_calls: Counter[str] = Counter()
        self.streams = 0
        self._writes = 0
        self._write_bytes = 0
        self._reads: set[Interruption] = set()
        self.stopping = False
        self._refused_at = 0.0
        self._refused: set[str] = set()
        self._ended = asyncio.Event()
        self._feeds: dict[str, Callable[[Any], AsyncGenerator[Any, None]]] = {
            "/mdstore.v1.ChangeFeed/Follow": self.feeds.follow,
            "/mdstore.v1.ChangeFeed/Snapshot": self.feeds.snapshot,
        }
        self.methods: Mapping[str, Method] = {
            path: Method(path, request, streams, None if streams else self._find(path))
            for file in SERVICE_FILES
            for path, request, _, streams in methods(file)
        }
        """Every method of the services, by its path."""

    def _reads_on_loop(self) -> "LoopReads":
        from mdstore.server.loop_reads import LoopReads  # noqa: PLC0415 (SQLite needs none of it)

        return LoopReads(self.store.database, self._side)

    def _find(self, path: str) -> Rpc | None:
        try:
            return self.store.find(path)
        except Unimplemented:
            return None

    async def stop(self, seconds: float) -> set[str]:
        """Refuse new calls and wait for those under way; after so long, reads that still run are stopped.

        Then wait for a moment without new calls. A call that meets gRPC while it shuts down is CANCELLED, which no
        client tries again; here, each client's next call is told UNAVAILABLE, and the client goes elsewhere.

        Returns:
            the peers, as `Caller.peer`, that were refused and may call again all the same.
        """
        self.stopping = True
        self._refused_at = monotonic()
        self.feeds.stop()
        try:
            await asyncio.wait_for(self._all_ended(), seconds)
        except TimeoutError:
            log.warning("stopped_reads", reads=len(self._reads), calls=self.calls)
            for interruption in tuple(self._reads):
                self._interrupt(interruption)
        at_last = monotonic() + QUIET_AT_LAST_S
        while (now := monotonic()) < min(self._refused_at + QUIET_S, at_last):
            await asyncio.sleep(self._refused_at + QUIET_S - now)
        return self._refused

    async def _all_ended(self) -> None:
        while self.calls or self.streams:
            self._ended.clear()
            await self._ended.wait()

    async def close(self) -> None:
        """Let go of threads and connections, once no call is under way."""
        await self.feeds.close()
        self._stop_measuring()
        self._scans.shutdown(cancel_futures=True)
        if self._loop_reads is not None:
            await self._loop_reads.close()
        if self._connection is not None:
            self._connection.close()
        self._side.shutdown(cancel_futures=True)

    async def unary(self, method: Method, body: bytes, caller: Caller, deadline: float | None) -> bytes:
        """Answer one call with the bytes of its response message.

        Args:
            method: one of `methods` that does not stream.
            body: the bytes of the request message.
            caller: who asks.
            deadline: of `time.monotonic`; the transport cancels this coroutine when it passes.

        Raises:
            MetadataError: the call failed. Nothing else but `asyncio.CancelledError` is raised.
        """
        began = perf_counter()
        span = self._traces.begin(method, caller) if self._traces is not None else None
        code = "OK"
        self.calls += 1
        client = caller.client()
        self._client_calls[client] += 1
        try:
            self._admit(caller, deadline)
            if self._client_calls[client] > self.limits.client_calls:
                raise ResourceExhausted(
                    f"{self.limits.client_calls} calls of {client} are under way already"
                ).retry_after(HINT_MS)
            answer = await self._answer(method, body, caller, deadline)
            if len(answer) > self.limits.message_bytes:
                raise ResourceExhausted(
                    f"the answer has {len(answer)} bytes, more than the {self.limits.message_bytes} that are allowed: "
                    "ask for fewer, or in pages"
                )
            return answer
        except asyncio.CancelledError:
            code = "CANCELLED" if deadline is None or monotonic() < deadline else "DEADLINE_EXCEEDED"
            raise
        except Exception as error:
            failure = self._as_metadata_error(method, error)
            code = refusals.status(failure).code
            if failure is error:
                raise
            raise failure from error
        finally:
            self.calls -= 1
            self._client_calls[client] -= 1
            if not self._client_calls[client]:
                del self._client_calls[client]
            self._ended.set()
            seconds = perf_counter() - began
            self.meter.called(method.name, code, seconds)
            if span is not None:
                span.end(code)
            if self._access_log:
                self._log_access(method, code, caller, seconds, len(body))

    def _admit(self, caller: Caller, deadline: float | None) -> None:
        if self.stopping:
            self._refused_at = monotonic()
            self._refused.add(caller.peer())
            raise Unavailable("the server is stopping").retry_after(1000)
        if self.calls > self.limits.calls:
            raise ResourceExhausted(f"{self.limits.calls} calls are under way already").retry_after(HINT_MS)
        if deadline is not None and monotonic() >= deadline:
            raise DeadlineExceeded("the deadline had passed before the call began")

    async def _answer(self, method: Method, body: bytes, caller: Caller, deadline: float | None) -> bytes:
        rpc = method.rpc
        if rpc is None:
            raise Unimplemented(f"{method.path.rpartition('/')[2]} is not implemented")
        if rpc.mode is Mode.WRITE:
            return await self._write(method, rpc, body, caller, deadline)
        if len(body) > INLINE_BYTES:
            request = await self._parse(method, body)
        else:
            request = _parse(method, body)
            if self._time_limit is not None and _is_short(rpc, request):
                try:
                    return self._point(rpc, request, self._time_limit)
                except Cancelled:
                    pass  # it is larger than it looked
            elif self._loop_reads is not None and len(body) <= LOOP_BYTES and _is_short(rpc, request):
                answer = await self._on_loop(self._loop_reads, rpc, request, caller)
                if answer is not None:
                    return answer
        return await self._scan(rpc, request, caller)

    async def _parse(self, method: Method, body: bytes) -> Any:
        if len(body) < PARSE_BYTES:
            return _parse(method, body)
        return await self.aside(partial(_parse, method, body))

    async def aside(self, work: Callable[[], T]) -> T:
        """Do on a thread what would keep the loop from everybody else."""
        return await self._loop.run_in_executor(self._side, work)

    async def _write(self, method: Method, rpc: Rpc, body: bytes, caller: Caller, deadline: float | None) -> bytes:
        size = len(body)
        if self._writes >= self.limits.queued_writes:
            raise ResourceExhausted(f"{self._writes} writes are waiting already").retry_after(HINT_MS)
        if self._writes and self._write_bytes + size > self.limits.queued_bytes:
            raise ResourceExhausted(
                f"writes of {self._write_bytes} bytes are waiting already, and this one has {size}"
            ).retry_after(HINT_MS)
        self._writes += 1
        self._write_bytes += size
        try:
            request = await self._parse(method, body)
            if size > 2 * self.limits.write_items:  # each item takes two bytes at least
                self._check_items(request)
            # When this coroutine is cancelled, so is the future, and with it a write whose turn has not come.
            submitted = self.store.submit(rpc, request, deadline, _call(caller))
            answer = await asyncio.wrap_future(submitted, loop=self._loop)
        finally:
            self._writes -= 1
            self._write_bytes -= size
        response: bytes = answer.SerializeToString()
        return response

    def _check_items(self, request: Any) -> None:
        items = sum(
            len(value)
            for _, value in request.ListFields()
            if isinstance(value, Sequence) and not isinstance(value, str | bytes)
        )
        if items > self.limits.write_items:
            raise ResourceExhausted(
                f"the request has {items} nodes and links, more than the {self.limits.write_items} that one write may "
                "have: send them in several"
            )

    def _point(self, rpc: Rpc, request: Any, limit: TimeLimit) -> bytes:
        limit.begin(INLINE_S)
        with read_transaction(self._connection, self.store.database) as tx:
            response: bytes = rpc.operation(tx, request).SerializeToString()
        return response

    async def _on_loop(self, reads: "LoopReads", rpc: Rpc, request: Any, caller: Caller) -> bytes | None:
        """The answer, or None when it is to be had in another way: it is larger than it looked, or its way is lost."""
        interruption = Interruption()

        def read(connection: Any) -> bytes:
            with read_transaction(connection, self.store.database) as tx, tx.interruptible(interruption):
                response: bytes = rpc.operation(tx, request).SerializeToString()
            return response

        self._reads.add(interruption)
        try:
            async with self._loop_turns.turn(caller.client()):
                return await reads.run(read, interruption)
        except (Cancelled, Unavailable):
            if interruption.is_stopped:
                raise Unavailable("the server is stopping").retry_after(1000) from None
            return None
        finally:
            self._reads.discard(interruption)

    async def _scan(self, rpc: Rpc, request: Any, caller: Caller) -> bytes:
        interruption = Interruption()
        self._reads.add(interruption)
        try:
            async with self._turns.turn(caller.client()):
                return await self._loop.run_in_executor(self._scans, self._read, rpc, request, interruption)
        except asyncio.CancelledError:
            self._interrupt(interruption)
            raise
        except Cancelled:
            if not interruption.is_stopped:
                raise DeadlineExceeded("the database stopped the query, which took longer than it allows") from None
            raise Unavailable("the server is stopping").retry_after(1000) from None
        finally:
            self._reads.discard(interruption)

    def _interrupt(self, interruption: Interruption) -> None:
        if self._inline:
            interruption.stop()
        else:
            # On a connection of its own, for which the loop must not wait.
            self._loop.run_in_executor(self._side, interruption.stop)

    def _read(self, rpc: Rpc, request: Any, interruption: Interruption) -> bytes:
        response: bytes = self.store.read(rpc, request, interruption).SerializeToString()
        return response

    async def stream(self, method: Method, body: bytes, caller: Caller) -> AsyncGenerator[bytes, None]:
        """Answer one call with the bytes of each of its response messages; raises as `unary`."""
        span = self._traces.begin(method, caller) if self._traces is not None else None
        began = perf_counter()
        code = "OK"
        self.streams += 1
        try:
            self._admit(caller, None)
            if self.streams > self.limits.streams:
                raise ResourceExhausted(f"{self.limits.streams} streams are open already").retry_after(HINT_MS)
            async with aclosing(self._feeds[method.path](_parse(method, body))) as messages:
                async for message in messages:
                    yield message.SerializeToString()
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except Exception as error:
            failure = self._as_metadata_error(method, error)
            code = refusals.status(failure).code
            if failure is error:
                raise
            raise failure from error
        finally:
            self.streams -= 1
            self._ended.set()
            self.meter.called(method.name, code, None)
            if span is not None:
                span.end(code)
            if self._access_log:
                self._log_access(method, code, caller, perf_counter() - began, len(body))

    def _as_metadata_error(self, method: Method, error: Exception) -> MetadataError:
        if isinstance(error, MetadataError):
            if isinstance(error, Internal):
                log.error("failed", method=method.name, exc_info=error)
            return error
        if isinstance(error, UnicodeDecodeError):
            return InvalidArgument(f"a text of the request is not UTF-8: {error}")
        log.error("failed", method=method.name, exc_info=error)
        return Internal(f"{method.path.rpartition('/')[2]} failed in the server; see its log")

    def _log_access(self, method: Method, code: str, caller: Caller, seconds: float, size: int) -> None:
        # What failed is logged whatever the share is: those are the calls that somebody will look for.
        if code == "OK" and random.random() >= self._access_log:  # noqa: S311 - a sample, not a secret
            return
        log.info(
            "answered",
            method=method.name,
            code=code,
            ms=round(seconds * 1000, 2),
            peer=caller.peer(),
            request_bytes=size,
        )


def _call(caller: Caller) -> Call:
    """What the headers say of a write: KFP's client has one spelling, grpc-go's middleware the other."""
    attempt = caller.header("x-retry-attempt") or caller.header("x-retry-attempty")
    number = int(attempt) if attempt.isdecimal() and len(attempt) < 10 else 0
    return Call(idempotency_key=caller.header("idempotency-key"), attempt=number)


def _is_short(rpc: Rpc, request: Any) -> bool:
    """Whether a read looks as if it were soon over."""
    if rpc.mode is not Mode.LIST:
        return rpc.mode is Mode.POINT
    # A filter in a context is how Kubeflow Pipelines asks for the tasks of a run; others may have to look at all nodes.
    return request.HasField("options") and (not request.options.filter_query or hasattr(request, "context_id"))


def _parse(method: Method, body: bytes) -> Any:
    try:
        return method.request.FromString(body)
    except DecodeError:
        name = method.request.DESCRIPTOR.full_name
        raise InvalidArgument(f"the request is no {name}: its {len(body)} bytes cannot be parsed") from None
