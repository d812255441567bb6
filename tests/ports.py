"""Ports for servers that tests start, kill and start again."""

import itertools
import os
import random
from typing import Final

from mdstore.cli.ports import is_free

_FIRST, _LAST = 20_000, 32_000
"""Below those that Linux and macOS give to whoever calls somebody, in which anybody's call may sit on a server's port
while it is away, and a client that tries again and again even calls itself."""
_WORKERS: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Tests that run beside these have other ports: a server takes its port only a while after it was found free."""
_NUMBERS: Final = itertools.count(random.SystemRandom().randrange(_LAST))


def free_port() -> int:
    """A port that nobody listens on, and that no other test gets."""
    while True:
        port = _FIRST + _WORKER + next(_NUMBERS) * _WORKERS % (_LAST - _FIRST)
        if is_free(port):
            return port
