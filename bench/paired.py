"""Servers side by side: each load meets all of them, one after the other, and ratios are taken within a repetition.

So the machine's moods meet all alike. All servers run the whole time, each on a database of its own with the same
contents; only one has a load at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench import load, servers
from bench.calls import PREFIX, Call
from bench.databases import Bed
from bench.servers import Serving


@dataclass(frozen=True, slots=True)
class Target:
    """A server, its database, and how many executions are in it."""

    server: Serving
    bed: Bed
    executions: int


@dataclass(slots=True)
class Measured:
    """All repetitions of one load on one server."""

    loads: list[load.Loaded] = field(default_factory=list)
    server_cpu_us: list[float] = field(default_factory=list)
    """Processor time of the server for a call, for each repetition."""
    database_cpu_us: list[float] = field(default_factory=list)

    def per_second(self) -> float:
        """Median."""
        return median(one.per_second for one in self.loads)

    def p50_ms(self) -> float:
        """Median of medians."""
        return median(one.p50_ms for one in self.loads)

    def p99_ms(self) -> float:
        """Median of the repetitions' 99th percentiles."""
        return median(one.p99_ms for one in self.loads)

    def cpu(self) -> str:
        """Processor time of a call: the server's and, where there is one, the database's."""
        database = median(self.database_cpu_us)
        return f"{median(self.server_cpu_us):,.0f}" + (f"+{database:,.0f}" if database else "")

    def failures(self) -> dict[str, int]:
        """Status → calls, of all repetitions."""
        total: dict[str, int] = {}
        for one in self.loads:
            for status, count in one.failures.items():
                total[status] = total.get(status, 0) + count
        return total

    def times(self, other: "Measured") -> float | None:
        """How many times as fast as another, the median of the repetitions' ratios; None when that did nothing."""
        ratios = [
            ours.per_second / theirs.per_second
            for ours, theirs in zip(self.loads, other.loads, strict=True)
            if theirs.per_second
        ]
        return median(ratios) if ratios else None


def measure(
    targets: Mapping[str, Target], call: Call, *, clients: int, repeats: int, seconds: float
) -> dict[str, Measured]:
    """Load each server `repeats` times for so many seconds; server's name → what came of it."""
    found = {name: Measured() for name in targets}
    for repetition in range(repeats):
        # Everybody comes first in turn.
        for name in rotated(list(targets), repetition):
            target = targets[name]
            job = load.Job(
                port=target.server.port,
                method=PREFIX + call.method,
                requests=call.requests(target.executions, clients, seed=repetition),
                seconds=seconds,
            )
            server, database = target.server.cpu_s(), servers.database_cpu_s(target.bed)
            loaded = load.run(job)
            # The warm-up is in the processor's time, and so are its calls.
            calls = max(1, loaded.all_calls)
            found[name].loads.append(loaded)
            found[name].server_cpu_us.append((target.server.cpu_s() - server) / calls * 1e6)
            found[name].database_cpu_us.append((servers.database_cpu_s(target.bed) - database) / calls * 1e6)
    return found


def rotated(names: Sequence[str], places: int) -> list[str]:
    """The same, beginning elsewhere."""
    places %= len(names)
    return [*names[places:], *names[:places]]
