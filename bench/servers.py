"""Starts what is measured, each in a process of its own on a free port of loopback, and ends it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import judge_python

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(port: int, process: "subprocess.Popen[str]", seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nothing listens on {port}")


@contextmanager
def running(*command: str | Path, port: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A process, until the block ends; waits for `port` first if one is given."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"NO_COLOR": "1"}
    )
    try:
        if port is not None:
            wait_for_port(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def store(folder: Path) -> Iterator[int]:
    """`mdstore serve` on an empty SQLite database; yields its port."""
    port = free_port()
    arguments = ("serve", "--database", f"sqlite:///{folder / 'metadata.db'}", "--grpc-port", str(port))
    with running(sys.executable, "-m", "mdstore", *arguments, port=port):
        yield port


@contextmanager
def peer(folder: Path, mode: str) -> Iterator[int]:
    """The original library behind gRPC (see peer.py); yields its port."""
    with running(judge_python(), HERE / "peer.py", folder / "library.db", mode) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        wait_for_port(port, process)
        yield port
