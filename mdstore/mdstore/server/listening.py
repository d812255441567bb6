"""Taking a port, or saying in one line why it cannot be had."""

import os
import socket

from mdstore.errors import Unavailable


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 for a free one.

    Raises:
        Unavailable: the port is taken, the address is not this machine's, or the name is none.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        # Not strerror, which repeats the address as Python writes it; a name that is not found has a number below 0.
        reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)
        raise Unavailable(f"cannot listen on {host}:{port}: {reason}; name another port or address") from error


def check_free(host: str, port: int) -> None:
    """Raise Unavailable as `listen`: gRPC would print lines of its own before it says so."""
    listen(host, port).close()
