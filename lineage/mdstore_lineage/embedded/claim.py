"""One projector per graph: a lock that the system takes away when its process ends, however it ends.

On a file beside the graph: SQLite loses its own locks on a file when somebody else in its process opens and closes it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdstore.errors import FailedPrecondition, PermissionDenied, Unavailable


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Be the only one who follows a store into the graph in `path`, as long as the block runs.

    Raises:
        FailedPrecondition: another one does.
        PermissionDenied: the file with the lock cannot be written to.
        Unavailable: it cannot be opened.
    """
    # Two names of one graph have one lock.
    real = path.resolve()
    lock = real.with_name(f"{real.name}.lock")
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError as error:
        raise PermissionDenied(f"{lock} cannot be written to; give it and its folder this user") from error
    except OSError as error:
        raise Unavailable(f"{lock} cannot be opened: {error.strerror}") from error
    try:
        _lock(fd, path)
        yield
    finally:
        # The file stays: whoever removed it could remove another one's lock.
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode(errors="replace").strip()
        who = f" (process {holder})" if holder else ""
        raise FailedPrecondition(
            f"another projector{who} follows a store into the lineage graph {path}: stop it, or name another graph"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
