"""What ties a child of `mdstore up` to its supervisor: it begins when it is told to, and ends when the supervisor does.

The supervisor hands every child the reading end of a pipe as stdin, and keeps the only writing end. A byte in it means
go: until then the child imports what it will need, so that services that wait for each other do not wait for each
other's imports. The kernel closes the writing end when the supervisor is gone, whatever it died of, also by `kill -9`;
the child then reads the end of the file and ends too. (Linux's PR_SET_PDEATHSIG would do that, but macOS has nothing
like it.)
"""

import os
import signal
import threading
import time
from importlib import import_module
from typing import Final

SUPERVISED: Final = "MDSTORE_SUPERVISED"
"""The variable by which the supervisor tells a child that its stdin is the lifeline; names what to import, by comma."""

GRACE_S: Final = 2.0
"""How long a child may take to end in order once its supervisor is gone."""


class Lifeline:
    """The child's end."""

    def __init__(self) -> None:
        """Watch stdin if there is a supervisor at its other end; if not, nothing here does anything."""
        found = os.environ.pop(SUPERVISED, None)  # taken away, since a grandchild's stdin is something else
        self._imports = [] if found is None else [name for name in found.split(",") if name]
        self._go = threading.Event()
        if found is None:
            self._go.set()
        else:
            threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def wait_for_go(self) -> None:
        """Import what will be needed, and return once the supervisor says so."""
        for name in self._imports:
            import_module(name)
        self._go.wait()

    def _watch(self) -> None:
        # Not sys.stdin: its lock, held by a daemon thread, breaks the interpreter's shutdown.
        while os.read(0, 4096):
            self._go.set()
        # Nobody reads what we print any more; a log line on the way out must not fail on a broken pipe.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)
