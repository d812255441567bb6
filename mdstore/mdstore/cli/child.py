"""One child process: its start, its output, whether it is ready, its end."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Final

from mdstore.cli import ask, lifeline
from mdstore.cli.console import Console
from mdstore.cli.ports import LOOPBACK
from mdstore.services import Service

PROBE_EVERY_S: Final = 0.05
PROBE_TIMEOUT_S: Final = 2.0
UNKNOWN_S: Final = 1.0
"""How long a service that says nothing about its readiness may take to find that it cannot start."""


class Child:
    """The process of one service. Started in a session of its own, so that a terminal's Ctrl-C does not reach it."""

    def __init__(self, service: Service, *, command: Sequence[str], console: Console, keep_open: Sequence[int]) -> None:
        """Say what to run.

        Args:
            service: its arguments are put behind `command`.
            command: the program, e.g. Python and `-m mdstore`.
            console: where its output goes.
            keep_open: file descriptors that it inherits.
        """
        self.service = service
        self._command = command
        self._console = console
        self._keep_open = keep_open
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._lifeline: int | None = None
        self._ready_line_seen = asyncio.Event()
        self.started_at = 0.0
        """`time.monotonic()` of the last start."""

    async def start(self, environment: Mapping[str, str], *, on_terminal: bool = False) -> None:
        """Start the process; it waits for `go`.

        Args:
            environment: all its variables, but for the service's own.
            on_terminal: it writes to our stdout and stderr itself, to show a progress bar.
        """
        self._ready_line_seen.clear()
        self.started_at = time.monotonic()
        self._let_go_of_lifeline()
        childs_end, self._lifeline = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                *self.service.arguments,
                stdin=childs_end,
                stdout=None if on_terminal else asyncio.subprocess.PIPE,
                stderr=None if on_terminal else asyncio.subprocess.STDOUT,
                env={
                    **environment,
                    **self.service.environment,
                    lifeline.SUPERVISED: ",".join(self.service.imports),
                },
                start_new_session=True,
                pass_fds=tuple(self._keep_open),
            )
        finally:
            os.close(childs_end)
        if self._process.stdout is not None:
            self._reading = asyncio.create_task(self._read(self._process.stdout))

    def go(self) -> None:
        """Let it begin."""
        if self._lifeline is not None:
            with contextlib.suppress(BrokenPipeError):  # it has died, which is another one's matter
                os.write(self._lifeline, b"\n")

    @property
    def is_running(self) -> bool:
        """It was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def ended(self) -> int:
        """Wait for the end of the process; its exit code, or minus the signal's number."""
        if self._process is None:
            raise RuntimeError(f"{self.service.name} was not started")
        code = await self._process.wait()
        if self._reading is not None:
            # Its own children may hold the pipe open, so there may be no end of the output.
            await asyncio.wait([self._reading], timeout=0.2)
        self._let_go_of_lifeline()
        return code

    async def is_ready(self) -> bool:
        """Ask once whether the service is ready."""
        service = self.service
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                if service.ready_url is not None:
                    return await ask.get_status(service.ready_url) == 200
                if service.ready_port is not None:
                    _, writer = await asyncio.open_connection(LOOPBACK, service.ready_port)
                    writer.close()
                    return True
        except (OSError, TimeoutError):
            return False
        return service.ready_line is None or self._ready_line_seen.is_set()

    async def ready(self) -> None:
        """Wait until the service is ready; one that says nothing about it is, when it has not ended in a while."""
        if self.service.ready_url is None and self.service.ready_port is None and self.service.ready_line is None:
            await asyncio.sleep(UNKNOWN_S)
        while not await self.is_ready():
            await asyncio.sleep(PROBE_EVERY_S)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """End the process, and what it has started, now."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _let_go_of_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    async def _read(self, output: asyncio.StreamReader) -> None:
        rest = b""
        # Not readline(), which fails on a line that is longer than its buffer.
        while piece := await output.read(65536):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._line(line)
        if rest:
            self._line(rest)

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        if self.service.ready_line is not None and self.service.ready_line in text:
            self._ready_line_seen.set()
        self._console.child(self.service.name, text)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
