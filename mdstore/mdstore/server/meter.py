"""Counts what the server does, cheaply enough to be always on. `metrics` shows it to Prometheus.

Plain numbers and no metrics library: a call costs half a microsecond, and a server that nobody scrapes needs no more
memory. Threads: calls are counted on the event loop, groups on the writer's thread; any may read.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

CALL_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COMMIT_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
GROUP_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """How many values were at most each bound, and what they add up to."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin with no values; `bounds` ascend."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, int]]:
        """`(bound, values up to it)` for each bound, the last "+Inf"."""
        found = []
        seen = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), tuple(self.counts), strict=True):
            seen += count
            found.append((bound, seen))
        return found


class Meter:
    """The numbers of one server."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.calls: defaultdict[tuple[str, str], int] = defaultdict(int)
        """(method, code) -> calls."""
        self.seconds: dict[str, Histogram] = {}
        """Method -> how long its calls took, streams left out."""
        self.group_sizes = Histogram(GROUP_BOUNDS)
        self.commit_seconds = Histogram(COMMIT_BOUNDS_S)

    def called(self, method: str, code: str, seconds: float | None) -> None:
        """A call has ended; `seconds` is None for a stream."""
        self.calls[method, code] += 1
        if seconds is not None:
            histogram = self.seconds.get(method)
            if histogram is None:
                histogram = self.seconds[method] = Histogram(CALL_BOUNDS_S)
            histogram.add(seconds)

    def committed(self, size: int, seconds: float) -> None:
        """A group of writes is on disk."""
        self.group_sizes.add(size)
        self.commit_seconds.add(seconds)
