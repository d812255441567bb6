"""The data folder of `mdstore up`, and the lock by which one process at a time has it."""

import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mdstore.cli.exits import CannotStart

LOCK: Final = "up.lock"
ORPHANS_S: Final = 6.0
"""How long the children of a supervisor that was killed may take to end; they give themselves less."""


class DataFolder:
    """A folder that is ours until `close`.

    The lock is inherited by the children that get `lock_fd`, and the kernel lets go of it when the last of them has
    ended. So whoever gets it knows that no child of an earlier supervisor still writes here, even after `kill -9`.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        """Use `claim`."""
        self.path = path
        self.lock_fd = lock_fd

    @classmethod
    def claim(cls, path: Path) -> Self:
        """Make the folder if need be, and lock it.

        Raises:
            CannotStart: it cannot be made or written, or another `mdstore up` has it.
        """
        path = Path(os.path.abspath(path))
        if "?" in str(path):
            raise CannotStart(f"the data folder {path} has a '?' in its name, which no database URL can say")
        try:
            path.mkdir(parents=True, exist_ok=True)
            fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CannotStart(
                f"the data folder {path} cannot be written: {error.strerror}; name another one with --data"
            ) from error
        try:
            _lock(fd, path)
        except BaseException:
            os.close(fd)
            raise
        folder = cls(path, fd)
        folder.note({})
        return folder

    def note(self, addresses: dict[str, str]) -> None:
        """Leave word of where we answer, for whoever finds the folder locked."""
        word = json.dumps({"pid": os.getpid(), **addresses}).encode()
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, word, 0)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self.lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(fd: int, path: Path) -> None:
    deadline = time.monotonic() + ORPHANS_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _word(fd)
            pid = holder.pop("pid", None)
            if isinstance(pid, int) and not _is_alive(pid) and time.monotonic() < deadline:
                time.sleep(0.05)  # children of a supervisor that was killed, on their way out
                continue
            where = "".join(f", {name} at {address}" for name, address in holder.items())
            who = "another mdstore up" if pid is None else f"another mdstore up (process {pid}{where})"
            raise CannotStart(f"the data folder {path} is in use by {who}; stop it, or use another --data") from None
        return


def _word(fd: int) -> dict[str, object]:
    try:
        word = json.loads(os.pread(fd, 65536, 0))
    except ValueError:
        return {}  # not written yet
    return word if isinstance(word, dict) else {}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
