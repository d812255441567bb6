"""Short reads of a database behind a network, on the event loop itself and not on a thread.

To wake a thread for a read, and the loop again when it is done, takes longer than the read. So it runs in a greenlet,
which gives the loop back whenever its connection waits for the database's server, as SQLAlchemy's asyncio does it: the
operations stay the synchronous functions that they are.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Final

from greenlet import getcurrent, greenlet

from mdstore.store.database import Database
from mdstore.store.interruption import Interruption

CONNECTIONS: Final = 16
"""Those of reads, and those whose queries nobody waits for any more and which are being stopped."""
MOST_ROWS: Final = 2000
"""Of one query: reading more of them into messages would keep the loop from its other calls for more than some 5 ms."""
STOP_S: Final = 1.0
_READ, _WRITE = 1, 2
"""What a connection waits for, and then may do."""


class LoopReads:
    """Connections of their own, made when they are needed. Threads: belongs to the event loop."""

    def __init__(self, database: Database, side: Executor) -> None:
        """Read from `database`.

        Args:
            database: one whose dialect can `wait_by`.
            side: threads on which connections are made, and queries stopped.
        """
        self._database = database
        self._side = side
        self._loop = asyncio.get_running_loop()
        self._free: list[Any] = []
        self._count = 0
        self._endings: set[asyncio.Task[None]] = set()

    async def run(self, read: Callable[[Any], bytes], interruption: Interruption) -> bytes | None:
        """What `read` makes of a connection outside any transaction; None when there is none for it.

        When this is cancelled, `interruption` is stopped: `read` should heed it.

        Raises:
            MetadataError: as `read`; `Cancelled` or `Unavailable` when a query had more than `MOST_ROWS` rows.
        """
        # Another one may have been sooner to take what was made.
        while not self._free:
            if self._count >= CONNECTIONS:
                return None
            await self._connect()
        connection = self._free.pop()
        reading = _Reading(read)
        try:
            reading.go_on(connection)
            answer = await reading.end()
        except asyncio.CancelledError:
            ending = self._loop.create_task(self._end(reading, connection, interruption))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
            raise
        except BaseException:
            self._give_back(connection)
            raise
        self._give_back(connection)
        return answer

    async def _connect(self) -> None:
        self._count += 1
        connecting = self._loop.run_in_executor(self._side, self._database.connect)
        connecting.add_done_callback(self._connected)
        # Who is cancelled leaves the connection to others.
        await asyncio.shield(connecting)

    def _connected(self, connecting: "asyncio.Future[Any]") -> None:
        if connecting.cancelled() or connecting.exception() is not None:
            self._count -= 1
            return
        if self._database.dialect.wait_by(connecting.result(), _wait, most_rows=MOST_ROWS):
            self._free.append(connecting.result())
        else:
            # Its place stays taken: no other one could do it either.
            self._count = CONNECTIONS
            connecting.result().close()

    def _give_back(self, connection: Any) -> None:
        if self._database.dialect.is_lost(connection):
            self._count -= 1
            connection.close()
        else:
            self._free.append(connection)

    async def _end(self, reading: "_Reading", connection: Any, interruption: Interruption) -> None:
        """Stop the query that nobody waits for any more, and let the read come to its end, which is an error."""
        with suppress(Exception):
            await self._loop.run_in_executor(self._side, interruption.stop)
        try:
            with suppress(Exception):
                await reading.end()
        except asyncio.CancelledError:
            reading.give_up()
            connection.close()
            raise
        self._give_back(connection)

    async def close(self) -> None:
        """Close the connections, once no read is under way."""
        if self._endings:
            _, hanging = await asyncio.wait(self._endings, timeout=STOP_S)
            for ending in hanging:
                ending.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
        for connection in self._free:
            connection.close()
        self._free.clear()


class _Reading:
    """A read that waits for its database's server as a coroutine."""

    def __init__(self, read: Callable[[Any], bytes]) -> None:
        self._loop = asyncio.get_running_loop()
        self._greenlet = greenlet(read)
        self._found: Any = None
        """What it waits for: a descriptor and what is wanted of it; at last its result."""

    def go_on(self, given: Any) -> None:
        """Until it waits again, or ends."""
        self._found = self._greenlet.switch(given)

    async def end(self) -> bytes:
        """Its result."""
        while not self._greenlet.dead:
            self.go_on(await self._ready(*self._found))
        result: bytes = self._found
        return result

    def give_up(self) -> None:
        """End it where it is; its connection is of no use then."""
        # Whatever it makes of that, nobody waits for it.
        with suppress(BaseException):
            self._greenlet.throw()

    async def _ready(self, descriptor: int, wanted: int) -> int:
        ready: asyncio.Future[int] = self._loop.create_future()

        def now(may: int) -> None:
            if not ready.done():
                ready.set_result(may)

        if wanted & _READ:
            self._loop.add_reader(descriptor, now, _READ)
        if wanted & _WRITE:
            self._loop.add_writer(descriptor, now, _WRITE)
        try:
            return await ready
        finally:
            if wanted & _READ:
                self._loop.remove_reader(descriptor)
            if wanted & _WRITE:
                self._loop.remove_writer(descriptor)


def _wait(descriptor: int, wanted: int) -> int:
    loop = getcurrent().parent
    assert loop is not None, "it waits outside of a read"
    ready: int = loop.switch((descriptor, wanted))
    return ready
