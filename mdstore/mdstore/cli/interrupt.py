"""Ctrl-C: while a command starts it ends at once, and later it is Python's KeyboardInterrupt.

A KeyboardInterrupt in the middle of an import prints a traceback that tells nobody anything, or is lost: raised in a
callback of the import system or of a library in C, it is printed as ignored, and the command goes on. A command that
starts has nothing to put in order. Nor has one that only asks or writes by transactions, so that calls `unwinding()`
only which leaves something behind otherwise, such as a terminal without a cursor.
"""

import os
import signal

EXIT_CODE = 130
"""What shells call the end by Ctrl-C: 128 and SIGINT's number."""
TERMINATED = 143
"""The same for SIGTERM."""


def _leave(_number: int, _frame: object) -> None:
    os._exit(EXIT_CODE)


def _leave_terminated(_number: int, _frame: object) -> None:
    os._exit(TERMINATED)


def leaving_at_once() -> None:
    """From now on, Ctrl-C ends the process: no traceback, exit code 130.

    Only where it was a KeyboardInterrupt: a signal that is ignored stays so, which is how nohup and a shell's `&`
    protect what they start.

    So does SIGTERM where it would not: Linux spares the first process of a container what that does not handle.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave_terminated)


def unwinding() -> None:
    """From now on, Ctrl-C is a KeyboardInterrupt again, so that blocks that were entered are left in order."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
