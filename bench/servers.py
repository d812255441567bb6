"""Starts what is measured, each in processes of its own on a free port of loopback, and ends it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.databases import Bed
from tests.needs import judge_python

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers."""

    port: int
    pids: tuple[int, ...]
    started_s: float
    """From its start until its port was open."""

    def cpu_s(self) -> float:
        """Processor time that its processes have taken."""
        return sum(map(cpu_s, self.pids))

    def rss_bytes(self) -> int:
        """Memory of its processes."""
        return sum(map(rss_bytes, self.pids))


def cpu_s(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_with_children_s(pid: int) -> float:
    """Processor time of a process, of its children, and of those that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has ended, and is in its parent's account
    total = sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return total + sum(cpu_with_children_s(int(child)) for child in children)


def database_cpu_s(bed: Bed) -> float:
    """Processor time of a database's server; 0 when it has none."""
    pid = bed.pid()
    return 0.0 if pid is None else cpu_with_children_s(pid)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(port: int, process: "subprocess.Popen[str]", seconds: float = 20) -> None:
    """Until somebody listens on the port.

    Raises:
        RuntimeError: the process has ended, or nobody does in time.
    """
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
def running(*command: str | Path, port: int | None = None, seconds: float = 20) -> Iterator["subprocess.Popen[str]"]:
    """A process, until the block ends; waits for `port` first if one is given."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"NO_COLOR": "1"}
    )
    try:
        if port is not None:
            wait_for_port(port, process, seconds)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def store(bed: Bed, name: str, *, seconds: float = 20) -> Iterator[Serving]:
    """`mdstore serve` on a database of a bed; waits so long for it."""
    port = free_port()
    arguments = ("serve", "--database", bed.url(name), "--grpc-port", str(port))
    began = time.perf_counter()
    with running(sys.executable, "-m", "mdstore", *arguments, port=port, seconds=seconds) as process:
        yield Serving(port, (process.pid,), time.perf_counter() - began)


@contextmanager
def peer(bed: Bed, name: str, mode: str, *, processes: int) -> Iterator[Serving]:
    """The original library behind gRPC (see peer.py) on a database of a bed."""
    command = (judge_python(), HERE / "peer.py", bed.library_config(name), mode, str(processes))
    began = time.perf_counter()
    with running(*command) as process:
        assert process.stdout is not None
        port, *others = map(int, process.stdout.readline().split())
        wait_for_port(port, process)
        yield Serving(port, (process.pid, *others), time.perf_counter() - began)
