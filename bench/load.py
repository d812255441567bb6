"""A load of calls from a process of its own, so that it shares no interpreter with what it measures.

    python -m bench.load < JOB

JOB holds the fields of a `Job`, pickled. Each client has a connection of its own and sends its next call when the last
one is answered. Prints one JSON object, `Loaded`. Only the standard library: it starts at once, and costs about 50 µs a
call.
"""

import gc
import json
import os
import pickle
import selectors
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench.http2 import Connection

WARM_UP_S: Final = (0.3, 3.0)
"""A load is counted when each client has an answer and the first time is over; or the second time, if one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to call."""

    port: int
    method: str
    """The path of the RPC."""
    requests: list[list[bytes]]
    """For each client its messages, sent in turn and again from the first one."""
    seconds: float
    most_calls: int = 0
    """End after so many too; 0 for no end."""


@dataclass(slots=True, kw_only=True)
class Loaded:
    """What came of it."""

    calls: int = 0
    """That were answered with OK."""
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    client_cpu_us: float = 0.0
    """Processor time that the load itself took for a call."""
    all_calls: int = 0
    """Whatever came of them, and those before counting began."""

    @property
    def per_second(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds if self.seconds else 0.0


def run(job: Job) -> Loaded:
    """Load in a process of its own, and wait for what came of it."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=pickle.dumps(asdict(job)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120 + job.seconds * 3,
    )
    return Loaded(**json.loads(done.stdout))


def load(job: Job) -> Loaded:
    """Call from this process."""
    poll = selectors.EpollSelector()
    turns: dict[Connection, int] = {}
    began: dict[Connection, float] = {}
    for requests in job.requests:
        connection = Connection(job.port, job.method)
        poll.register(connection.socket, selectors.EVENT_READ, (connection, requests))
        turns[connection] = 0

    def send(connection: Connection, requests: list[bytes]) -> None:
        turn = turns[connection]
        turns[connection] = turn + 1
        began[connection] = time.perf_counter()
        connection.send(requests[turn % len(requests)])

    for key in list(poll.get_map().values()):
        send(*key.data)
    times: list[float] = []
    failures: dict[str, int] = {}
    warm: set[Any] = set()
    shortest, longest = WARM_UP_S
    answered = 0
    start = time.perf_counter()
    counting = False
    cpu, end = 0.0, start + 60
    clients = len(turns)
    while True:
        for key, _ in poll.select(1):
            connection, requests = key.data
            status = connection.receive()
            if status is None:
                continue
            now = time.perf_counter()
            answered += 1
            if counting:
                if status == "OK":
                    times.append(now - began[connection])
                else:
                    failures[status] = failures.get(status, 0) + 1
            else:
                warm.add(connection)
            send(connection, requests)
        now = time.perf_counter()
        if not counting:
            if (len(warm) == clients and now - start >= min(shortest, job.seconds)) or now - start >= longest:
                counting, start, end = True, now, now + job.seconds
                cpu = _cpu()
        elif now >= end or (job.most_calls and len(times) + sum(failures.values()) >= job.most_calls):
            break
        if now >= end and not counting:
            raise TimeoutError("after a minute no client has an answer")
    elapsed, cpu = time.perf_counter() - start, _cpu() - cpu
    count = len(times) + sum(failures.values())
    times.sort()
    return Loaded(
        calls=len(times),
        seconds=elapsed,
        p50_ms=times[len(times) // 2] * 1000 if times else 0.0,
        p99_ms=times[int(len(times) * 0.99)] * 1000 if times else 0.0,
        failures=failures,
        client_cpu_us=cpu / count * 1e6 if count else 0.0,
        all_calls=answered,
    )


def _cpu() -> float:
    used = os.times()
    return used.user + used.system


if __name__ == "__main__":
    gc.disable()
    print(json.dumps(asdict(load(Job(**pickle.loads(sys.stdin.buffer.read()))))))
