"""`mdstore graphql serve` as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

COMMAND = [sys.executable, "-m", "mdstore", "graphql"]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    """Of `/graphql`."""
    process: subprocess.Popen[str]

    @property
    def healthz(self) -> str:
        return self.url.replace("/graphql", "/healthz")

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, float, str]:
        """Its exit code, how many seconds it took to end, and what it still said."""
        begun = time.monotonic()
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, time.monotonic() - begun, said


@contextmanager
def serving(database: str, graph: str, *options: str) -> Iterator[Server]:
    """Start a server on a free port of loopback, and kill it at the end."""
    command = [*COMMAND, "serve", "--database", database, "--graph", graph, "--http-port", "0", *options]
    environment = {**os.environ, "MDSTORE_LOG_FORMAT": "json"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            yield Server(json.loads(line)["url"], process)
        finally:
            process.kill()


def run(*arguments: str) -> tuple[int, str, str]:
    """A command that ends by itself: its exit code, what it printed, what it complained about."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr
