"""Trying again while a store is away for a moment: it is being restarted, or another writer won."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import structlog

from mdstore.errors import Aborted, DeadlineExceeded, ResourceExhausted, Unavailable

log = structlog.get_logger()
T = TypeVar("T")

PASSING: Final = (Unavailable, Aborted, DeadlineExceeded, ResourceExhausted)
"""Errors that may be over when the same is asked again."""


def pauses(*, first_s: float = 0.1, most_s: float = 10.0) -> Iterator[float]:
    """Seconds to wait before each next try: doubling up to a limit, and random so that many do not come at once."""
    pause = first_s
    while True:
        yield pause * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)
        pause = min(pause * 2, most_s)


def patiently(call: Callable[[], T], *, for_s: float = 60.0) -> T:
    """What `call` returns, tried again for `for_s` seconds while the store is away.

    Raises:
        MetadataError: what the last try raised.
    """
    deadline = time.monotonic() + for_s
    for pause in pauses():
        try:
            return call()
        except PASSING as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("store is away, trying again", error=str(error), pause_s=round(pause, 1))
            time.sleep(pause)
    raise AssertionError("pauses never end")
