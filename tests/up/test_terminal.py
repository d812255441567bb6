"""The supervisor in a terminal: Ctrl-C as the keyboard sends it, colors, and a child with a progress bar."""

import json
import os
import pty
import sys
import time
from pathlib import Path

from tests.up.processes import is_alive, until
from tests.up.test_supervisor import STAND, served


class Terminal:
    """A program with a terminal of its own, as a shell would start it."""

    def __init__(self, *command: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.pop("NO_COLOR", None)
            os.execv(command[0], command)
        os.set_blocking(self._fd, False)
        self.shown = b""

    def look(self) -> bytes:
        try:
            while piece := os.read(self._fd, 65536):
                self.shown += piece
        except (BlockingIOError, OSError):
            pass
        return self.shown

    def press(self, key: bytes) -> None:
        os.write(self._fd, key)

    def end(self) -> int:
        def ended() -> tuple[int, int] | None:
            self.look()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (pid, status) if pid else None

        _, status = until("the program's end", ended, seconds=10)
        return os.waitstatus_to_exitcode(status)


def test_ctrl_c_reaches_the_supervisor_alone_and_stops_all() -> None:
    terminal = Terminal(sys.executable, STAND, json.dumps([served("first"), served("second")]), "30")
    until("ready", lambda: b"everything is ready" in terminal.look())
    pids = [int(line.split()[0]) for line in os.popen(f"ps -o pid= --ppid {terminal.pid}")]
    assert len(pids) == 2
    begun = time.monotonic()
    terminal.press(b"\x03")
    assert terminal.end() == 0
    assert time.monotonic() - begun < 3
    assert b"KeyboardInterrupt" not in terminal.shown
    assert not any(map(is_alive, pids))


def test_each_child_has_a_color_on_a_terminal() -> None:
    terminal = Terminal(sys.executable, STAND, json.dumps([served("first"), served("second")]), "30")
    until("ready", lambda: b"everything is ready" in terminal.look())
    terminal.press(b"\x03")
    terminal.end()
    assert b"\x1b[36mfirst  |\x1b[0m first listens" in terminal.shown
    assert b"\x1b[32msecond |\x1b[0m second listens" in terminal.shown


def test_a_child_on_the_terminal_is_not_written_over() -> None:
    program = str(Path(__file__).with_name("bar.py"))
    terminal = Terminal(sys.executable, program)
    assert terminal.end() == 0
    lines = terminal.shown.decode().splitlines()
    bar = [at for at, line in enumerate(lines) if "Replaying" in line]
    chatter = [at for at, line in enumerate(lines) if "chatty |" in line or "chatty\x1b" in line]
    assert bar
    assert chatter
    assert not [at for at in chatter if bar[0] < at < bar[-1]]
    assert "ended with 3" in terminal.shown.decode()
