"""Starting what is tested as a process, reading what it prints, and looking for what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


def until(what: str, ask: Callable[[], T | None], *, seconds: float = 20.0) -> T:
    """The first answer of `ask` that is true; fails with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := ask():
            return answer
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs: it exists and is no zombie."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(found.strip()) and not found.strip().startswith("Z")


def answer(port: int) -> str | None:
    """What a `part.py` on this port answers: its process id."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as response:
            return str(response.read(), "ascii")
    except OSError:
        return None


class Running:
    """A process and all that it prints, stdout and stderr together."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def printed(self) -> str:
        return "".join(self._lines)

    def wait_for(self, pattern: str, *, seconds: float = 30.0, count: int = 1) -> re.Match[str]:
        """The `count`th match of a regular expression in what was printed."""

        def look() -> re.Match[str] | None:
            found = list(re.finditer(pattern, self.printed))
            assert len(found) >= count or self.process.poll() is None, (
                f"ended with {self.process.returncode} and never printed {pattern!r}:\n{self.printed}"
            )
            return found[count - 1] if len(found) >= count else None

        try:
            return until(pattern, look, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\nprinted:\n{self.printed}") from None

    def children(self) -> list[int]:
        """The process ids of its direct children that run."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
        rows = (line.split() for line in listed.stdout.splitlines())
        return [int(pid) for pid, parent, state in rows if int(parent) == self.process.pid and state[0] != "Z"]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, *, seconds: float = 10.0) -> tuple[int, float]:
        """Wait for its end; the exit code, and how many seconds it took."""
        begun = time.monotonic()
        code = self.process.wait(seconds)
        took = time.monotonic() - begun
        self._reader.join(2)
        return code, took

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self.children()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def mdstore(*arguments: str, environment: Mapping[str, str] | None = None) -> Running:
    """The `mdstore` command."""
    return Running([sys.executable, "-P", "-m", "mdstore", *arguments], environment=environment)
