"""A child of `mdstore up` ends when its supervisor does, however that went: also by `kill -9`.

The supervisor hands every child the reading end of one pipe as stdin, and keeps the only writing end. The kernel
closes that when the supervisor is gone, whatever it died of, and the child reads the end of the file. (Linux's
PR_SET_PDEATHSIG would do too, but macOS has nothing like it.)
"""

import os
import signal
import threading
import time
from typing import Final

SUPERVISED: Final = "MDSTORE_SUPERVISED"
"""The environment variable by which the supervisor tells a child that its stdin is the lifeline."""

GRACE_S: Final = 2.0
"""How long a child may take to end in order once its supervisor is gone."""


def watch() -> None:
    """End this process when its supervisor ends; does nothing in a process that has none."""
    if os.environ.pop(SUPERVISED, None) is None:  # taken away, since a grandchild's stdin is something else
        return
    threading.Thread(target=_end_with_the_supervisor, name="lifeline", daemon=True).start()


def _end_with_the_supervisor() -> None:
    # Not sys.stdin: its lock, held by a daemon thread, breaks the interpreter's shutdown.
    while os.read(0, 4096):
        pass
    # Nobody reads what we print any more; a log line on the way out must not fail on a broken pipe.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
