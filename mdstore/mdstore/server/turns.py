"""Gives a few threads to many callers in turn, so that one who asks for much does not keep the others waiting."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """So many may go on at the same time; of those who wait, each client's first comes in turn.

    Threads: belongs to the event loop.
    """

    def __init__(self, count: int) -> None:
        """Let `count` go on at the same time."""
        self._free = count
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn of `client`, which lasts as long as the block."""
        if self._free:
            self._free -= 1
        else:
            mine = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(client, deque()).append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():
                    self._pass_on()  # the turn came at the same moment
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            client, queue = self._waiting.popitem(last=False)
            next_one = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind the others
            if not next_one.done():  # who was cancelled stays in the queue until it is met
                next_one.set_result(None)
                return
        self._free += 1
