"""`mdstore serve`, or another server, as a process of its own with its log in a file."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class Process:
    """A server that is ready."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log
        found = re.search(r'"address": "([^"]*)"(?:, "http": "([^"]*)")?', self.said())
        assert found is not None, self.said()
        self.address = found[1].replace("0.0.0.0", "127.0.0.1")
        self.http = None if found[2] is None else f"http://{found[2].replace('0.0.0.0', '127.0.0.1')}"

    def said(self) -> str:
        """Its log; gRPC's core puts bytes there as they came."""
        return self.log.read_text(errors="replace")


@contextmanager
def started(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Process]:
    """Run a server until the end of the block; it is ready when the block begins."""
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, cwd=folder, env=dict(environment))
    try:
        deadline = time.monotonic() + 90
        while b'"serving"' not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield Process(process, log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
