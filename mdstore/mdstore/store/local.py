"""A store in this process: same methods, same results, same errors as over gRPC."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from mdstore.client.client import Client
from mdstore.errors import InvalidArgument
from mdstore.store.store import Bell, Store
from mdstore.wire import changes

POLL_S: Final = 0.05
"""How long a commit of another process on the same database stays unseen."""


def open_local(url: str) -> Client:
    """Open the database at `url` in this process; raises as `mdstore.connect`."""
    return LocalClient(Store.open(url))


class LocalClient(Client):
    """A client that is the store. Threads may share it."""

    def __init__(self, store: Store) -> None:
        """Own an open store: closing the client closes it."""
        self._store = store

    def _call(self, method: str, request: Message, timeout: float | None) -> Any:  # noqa: ARG002 (nothing to time out)
        try:
            return self._store.call(method, request)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"a text of the request is not UTF-8: {error}") from error

    def follow(
        self, from_seq: int = 1, *, once: bool = False, max_commits: int = 0
    ) -> Iterator[changes.FollowResponse]:
        """The commits from position `from_seq` on, in order and without gaps; endless unless `once`."""
        bell = Bell(self._store)
        try:
            while True:
                page = self._store.follow_page(from_seq, max_commits)
                if page.commits:
                    from_seq = page.commits[-1].seq + 1
                    yield changes.FollowResponse.FromString(page.SerializeToString())
                elif once:
                    return
                else:
                    bell.wait(POLL_S)
        finally:
            bell.close()

    def snapshot(self, at_seq: int = 0) -> Iterator[changes.SnapshotResponse]:
        """Everything at one position, in pages; 0 is the newest position."""
        return self._store.snapshot(at_seq)

    def close(self) -> None:
        """Close the store."""
        self._store.close()
