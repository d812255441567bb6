"""What every client of a store can do."""

from abc import abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from mdstore.client.calls import Calls
from mdstore.wire import changes


class Client(Calls):
    """A store, over gRPC or in this process: same methods, same results, same errors.

    Threads may share one client. Close it, or use it as a context manager.
    """

    @abstractmethod
    def follow(
        self, from_seq: int = 1, *, once: bool = False, max_commits: int = 0
    ) -> Iterator[changes.FollowResponse]:
        """The commits from position `from_seq` on, in order and without gaps; endless unless `once`."""

    @abstractmethod
    def snapshot(self, at_seq: int = 0) -> Iterator[changes.SnapshotResponse]:
        """Everything at one position, in pages; 0 is the newest position."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files. A call after this is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
