"""Ports for servers that tests start, kill and start again."""

import itertools
import os
import random
from typing import Final

from mdstore.cli.ports import is_free

_FIRST, _LAST = 20_000, 32_000
"""Below those that Linux and macOS give to whoever calls somebody, in which anybody's call may sit on a server's port
while it is away, and a client that tries again and again even calls itself."""
_NUMBERS: Final = itertools.count(random.SystemRandom().randrange(_FIRST, _LAST) + os.getpid())


def free_port() -> int:
    """A port that nobody listens on, and that nobody else of this process gets."""
    while True:
        port = _FIRST + next(_NUMBERS) % (_LAST - _FIRST)
        if is_free(port):
            return port
