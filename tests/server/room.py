"""A file system with little room: a real one, in namespaces of its own, so that no rights on the machine are needed."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

IN_NAMESPACES = ("unshare", "--map-root-user", "--mount")
"""Runs a command that may mount, for itself alone."""
_BLOCK = 64 * 1024


class SmallDisk:
    """A tmpfs. What `command` starts sees it as `folder`; everybody else as `outside`."""

    def __init__(self, folder: Path, holder: int) -> None:
        self.folder = folder
        self.outside = Path(f"/proc/{holder}/root{folder}")
        self._holder = holder

    def command(self, *arguments: str) -> list[str]:
        """Run this where the disk is."""
        return ["nsenter", f"--target={self._holder}", "--user", "--mount", "--preserve-credentials", *arguments]

    def python(self, *arguments: str) -> list[str]:
        return self.command(sys.executable, *arguments)

    def fill(self, *, leave_kb: int = 0) -> None:
        """Take all room but so much."""
        self.free()
        descriptor = os.open(self.outside / "filler", os.O_WRONLY | os.O_CREAT)
        try:
            for size in (_BLOCK, 4096, 1):
                try:
                    while True:
                        os.write(descriptor, b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - leave_kb * 1024)
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give the room back."""
        (self.outside / "filler").unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, *, size_kb: int) -> Iterator[SmallDisk]:
    """A disk of this size, until the end of the block."""
    mounting = f'mount -t tmpfs -o size={size_kb}k none "$1" && echo ready && exec sleep 600'
    holding: Sequence[str] = (*IN_NAMESPACES, "sh", "-c", mounting, "sh", str(folder))
    with subprocess.Popen(holding, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield SmallDisk(folder, holder.pid)
        finally:
            holder.kill()
