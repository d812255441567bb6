"""The streams: following the change log, and snapshots.

However many follow, one task looks for commits of other processes on the same database; commits of this process wake
the followers at once.
"""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from mdstore.errors import MetadataError, ResourceExhausted, Unavailable
from mdstore.store.store import Store
from mdstore.wire import changes

POLL_S: Final = 0.05
"""How long a commit of another process on the same database stays unseen."""
SNAPSHOTS: Final = 8
"""Read at the same time: each keeps a connection to the database as long as its reader likes, and there are few."""
SNAPSHOT_HINT_MS: Final = 1000


class Feeds:
    """The change log of one store, as streams. Threads: belongs to the event loop."""

    def __init__(self, store: Store, pool: Executor) -> None:
        """Read from `store` on threads of `pool`."""
        self._store = store
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._newest = 0
        self._news = asyncio.Event()
        self._stopping = False
        self._watcher: asyncio.Task[None] | None = None
        self._stop_listening = store.on_commit(self._committed)
        self._snapshots = 0
        self.followers = 0
        """How many follow now."""

    def _committed(self, seq: int) -> None:
        """On the writer's thread."""
        self._loop.call_soon_threadsafe(self._advance, seq)

    def _advance(self, seq: int) -> None:
        if seq > self._newest:
            self._newest = seq
            self._news.set()
            # A new event for the next commit: whoever waits has the old one, so nobody can clear it under another.
            self._news = asyncio.Event()

    def stop(self) -> None:
        """End the streams."""
        self._stopping = True
        self._news.set()

    async def close(self) -> None:
        """Listen no more; no stream is open."""
        self._stop_listening()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    async def follow(self, request: changes.FollowRequest) -> AsyncGenerator[changes.PackedFollowResponse, None]:
        """The commits from a position on; endless unless the request says `once`.

        Raises:
            InvalidArgument: the position is beyond the log.
            OutOfRange: the log was compacted, now or before, and what is there cannot be told from the position on.
            Unavailable: the server is stopping.
        """
        self.followers += 1
        if self._watcher is None:
            self._watcher = self._loop.create_task(self._watch())
        try:
            seq, behind = max(1, request.from_seq), b""
            first = True
            while True:
                if self._stopping:
                    raise Unavailable("the server is stopping").retry_after(1000)
                look = partial(self._store.follow_page, seq, request.max_commits, behind=behind)
                page = await self._loop.run_in_executor(self._pool, look)
                self._advance(page.head_seq)
                if page.commits:
                    seq, behind = page.commits[-1].seq + 1, page.commits[-1].hash
                    yield page
                elif first:
                    # An empty message: the caller learns the head and the store's identity before anything happens.
                    yield page
                first = False
                if seq > page.head_seq:
                    if request.once:
                        return
                    if seq > self._newest and not self._stopping:
                        # Nothing can happen between the look at the newest position and the wait: one loop.
                        await self._news.wait()
        finally:
            self.followers -= 1

    async def _watch(self) -> None:
        """Notice commits of other processes, as long as somebody follows."""
        while True:
            await asyncio.sleep(POLL_S if self.followers else 1.0)
            if self.followers:
                try:
                    self._advance(await self._loop.run_in_executor(self._pool, self._store.head_seq))
                except MetadataError:
                    continue  # each follower meets it on its own at its next read

    async def snapshot(self, request: changes.SnapshotRequest) -> AsyncGenerator[changes.SnapshotResponse, None]:
        """Everything at one position, in pages.

        Raises:
            ResourceExhausted: as many as may be are read already.
            Unavailable: the server is stopping.
        """
        if self._snapshots >= SNAPSHOTS:
            raise ResourceExhausted(f"{SNAPSHOTS} snapshots are being read already").retry_after(SNAPSHOT_HINT_MS)
        self._snapshots += 1
        pages: Any = self._store.snapshot(request.at_seq)
        # One thread for the whole stream: its connection and its moment belong together.
        with ThreadPoolExecutor(1, "mdstore-snapshot") as thread:
            try:
                while (page := await self._loop.run_in_executor(thread, next, pages, None)) is not None:
                    if self._stopping:
                        raise Unavailable("the server is stopping").retry_after(1000)
                    yield page
            finally:
                try:
                    await asyncio.shield(self._loop.run_in_executor(thread, pages.close))
                finally:
                    self._snapshots -= 1
