"""TCP ports on loopback: the usual one when it is free."""

import contextlib
import socket
from collections.abc import Collection
from typing import Final

from mdstore.cli.exits import CannotStart

LOOPBACK: Final = "127.0.0.1"
NEARBY: Final = 100
"""So many ports after the usual one are tried before any free one will do."""


def choose(wanted: int | None, usual: int, *, flag: str, taken: Collection[int] = ()) -> int:
    """The port to listen on: `wanted`, which must be free (0: any), else the usual one or one near it.

    Raises:
        CannotStart: `wanted` is not free, or is in `taken`.
    """
    if wanted == 0:
        return any_free()
    if wanted is not None:
        if wanted in taken or not is_free(wanted):
            raise CannotStart(f"port {wanted} is taken; name another one with {flag}, or none to get a free one")
        return wanted
    for port in range(usual, usual + NEARBY):
        if port not in taken and is_free(port):
            return port
    return any_free()


def is_free(port: int) -> bool:
    """Whether a server could listen here now."""
    # Binding is not enough: on macOS, SO_REUSEADDR binds 127.0.0.1 beside a server on 0.0.0.0.
    with socket.socket() as caller:
        caller.settimeout(0.5)
        with contextlib.suppress(OSError):
            caller.connect((LOOPBACK, port))
            return False
    with socket.socket() as server:
        # As servers do it: connections of an earlier one that still fade away do not count.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def any_free() -> int:
    """A free port of the kernel's choice."""
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        return int(server.getsockname()[1])
