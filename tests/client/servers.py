"""`mdstore serve` as a process on one port, killed and started again."""

import os
import signal
import sys

from mdstore.cli import ports
from tests.up.processes import Running


class Server:
    """A store's server that comes and goes."""

    def __init__(self, database: str) -> None:
        self.port = ports.any_free()
        self.url = f"grpc://127.0.0.1:{self.port}"
        self._database = database
        self._running: Running | None = None

    def start(self) -> None:
        command = ["-P", "-m", "mdstore", "serve", "--database", self._database, "--grpc-port", str(self.port)]
        self._running = Running([sys.executable, *command])
        self._running.wait_for("serving", seconds=30)

    def kill(self) -> None:
        """kill -9."""
        assert self._running is not None
        os.kill(self._running.process.pid, signal.SIGKILL)
        self._running.process.wait(10)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None and self._running.process.poll() is None:
            self.kill()
