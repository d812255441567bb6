"""Closes the door to clients that go on calling a server that has told them that it stops.

gRPC answers a call that it meets while it shuts down with CANCELLED, which no client tries again. A client whose
connection is gone, or who gets none, has UNAVAILABLE instead, and does. gRPC can close neither its port nor one
connection before it shuts down; the system can.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

_DESCRIPTORS: Final = Path("/dev/fd")
"""Of this process; not everywhere."""


def hang_up(port: int, peers: Collection[str]) -> None:
    """Accept no more connections to `port` of this process, and close those of `peers`, which are written as by gRPC.

    Nothing of theirs may be under way. Without peers, or where a process cannot list its descriptors, all stays open.
    """
    if not peers or not _DESCRIPTORS.is_dir():
        return
    addresses = {_address(peer) for peer in peers}
    # The listeners first: whoever is hung up on calls again at once.
    for listener in _sockets(port):
        with listener, contextlib.suppress(OSError):
            if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.shutdown(socket.SHUT_RDWR)
    for connection in _sockets(port):
        with connection, contextlib.suppress(OSError):
            host, from_port = connection.getpeername()[:2]
            # gRPC listens for both families on one socket, where an IPv4 address has this in front.
            if (host.removeprefix("::ffff:"), from_port) in addresses:
                connection.shutdown(socket.SHUT_RDWR)


def _sockets(port: int) -> Iterator[socket.socket]:
    """Copies of this process's TCP sockets whose own port is `port`; the caller closes them."""
    for name in os.listdir(_DESCRIPTORS):
        # Some are closed by now.
        with contextlib.suppress(OSError):
            number = int(name)
            # Most are no sockets, and who makes one of them would keep the copy when that fails.
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            found = socket.socket(fileno=os.dup(number))
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                yield found
            else:
                found.close()


def _address(peer: str) -> tuple[str, int]:
    """Host and port of a peer such as "ipv4:127.0.0.1:4711" or "ipv6:%5B::1%5D:4711"."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return host.strip("[]").removeprefix("::ffff:"), int(port) if port.isdigit() else 0
