"""Keeps the thread that `grpc.aio` polls with.

With the last of its channels and servers `grpc.aio` takes its thread down, and waits for it. When the garbage collector
is what takes the last one, that happens in the middle of whatever thread just made an object, and the wait may never
end: https://github.com/grpc/grpc/issues/22365.
"""

from functools import cache

import grpc.aio


@cache
def keep_poller() -> None:
    """Before the first channel or server is made: from now on the thread stays until the process ends."""
    grpc.aio.init_grpc_aio()
