"""Statements to PostgreSQL that are sent together, and whose results come together.

psycopg's own pipeline sends each statement by itself, waiting for the connection in between, and asks the server for
what is there when the first row is wanted: five statements are seven waits, and as many times a process of the server
wakes up. Here they are one message each way, which takes a third off a small write.

What is used of the driver beside its pipeline's interface has no promise behind it, so its version is bounded in
`pyproject.toml`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import Pipeline, generators
from psycopg.abc import PQGen


class _AtOnce(Pipeline):
    def _communicate_gen(self) -> PQGen[None]:
        """After each statement: the server may begin with it while the next one is made; nobody waits for it."""
        self._send()
        yield from ()

    def _exit_gen(self) -> PQGen[None]:
        self._enqueue_sync()
        self._send()
        yield from generators.send(self.pgconn)
        yield from self._fetch_gen(flush=False)

    def _send(self) -> None:
        while self.command_queue:
            self.command_queue.popleft()()
        # What the server does not take yet, libpq keeps, however much that is.
        self.pgconn.flush()


@contextmanager
def one_message(connection: Any) -> Iterator[None]:
    """What is executed inside the block is sent at its end; then cursors have their results, and no sooner.

    Raises:
        psycopg.Error: of the first statement that failed; none was executed after it.
    """
    assert connection._pipeline is None, "a message is within another"
    connection._pipeline = pipeline = _AtOnce(connection)
    try:
        with pipeline:
            yield
    finally:
        connection._pipeline = None
