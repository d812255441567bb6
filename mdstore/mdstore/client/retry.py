"""Trying again what failed for a moment: another writer won, or the store is being restarted."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mdstore.client.calls import REPEATABLE
from mdstore.client.once import current_key
from mdstore.errors import Aborted, MetadataError, ResourceExhausted, Unavailable

PASSING: Final = (Aborted, Unavailable, ResourceExhausted)
"""Errors after which the same call may work; of `ResourceExhausted` those that say when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a client makes a call again that ended with `Aborted`, `Unavailable`, or a full queue (`ResourceExhausted`).

    Reads, idempotent writes (`mdstore.client.calls.REPEATABLE`) and writes with an idempotency key only, unless
    `writes` is set: when the connection broke, nobody knows whether a write was done, and a repeated one may do it
    twice. Streams are never begun again, since only the caller knows how far they came.
    """

    tries: int = 5
    """Calls in all; 1 for no second one."""
    first_pause_s: float = 0.1
    """The pause before the second call; each further one is twice as long."""
    longest_pause_s: float = 2.0
    """No pause is longer."""
    writes: bool = False
    """Make every write again, also one that a repetition may double."""

    def covers(self, method: str) -> bool:
        """Whether the RPC at this path, called here and now, is called again."""
        return self.tries > 1 and (self.writes or method in REPEATABLE or bool(current_key()))

    def pauses(self) -> Iterator[float]:
        """Seconds before each next call: doubling, bounded, and random so that many clients do not come at once."""
        pause = self.first_pause_s
        for _ in range(self.tries - 1):
            yield min(pause, self.longest_pause_s) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
            pause *= 2


NEVER: Final = Retry(tries=1)
"""Every error reaches the caller at once."""


class Tries:
    """One call's tries, and the time that is left for them."""

    __slots__ = ("_covered", "_deadline", "_pauses", "_retry")

    def __init__(self, retry: Retry, method: str, timeout: float | None) -> None:
        """Begin a call that may take `timeout` seconds in all; None for no limit."""
        self._retry = retry
        self._covered = retry.covers(method)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._pauses: Iterator[float] | None = None

    def left_s(self) -> float | None:
        """Seconds until the deadline, if there is one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def pause_after(self, error: MetadataError) -> float:
        """How many seconds to wait before the next try.

        Raises:
            MetadataError: `error`, when there is to be no other try.
        """
        if not self._covered or (isinstance(error, ResourceExhausted) and error.retry_after_ms is None):
            raise error
        if self._pauses is None:
            self._pauses = self._retry.pauses()
        pause = next(self._pauses, None)
        if pause is None:
            raise error
        if error.retry_after_ms is not None:
            pause = max(pause, min(error.retry_after_ms / 1000, self._retry.longest_pause_s))
        left = self.left_s()
        if left is not None and pause >= left:
            raise error
        return pause
