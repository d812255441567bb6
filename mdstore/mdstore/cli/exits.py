"""How the command ends when it cannot do what it was asked: one line on stderr and exit code 2, no traceback.

`mdstore.__main__` wraps every command in `one_line_exits()`, so a command just raises. What ends in one line:

- any `mdstore.errors.MetadataError`: a database that cannot be opened, a newer schema, a store that is not there;
- `CannotStart`, for what has no protocol code: a busy port, a folder that is not writable;
- settings that pydantic refuses: each by its flag and its environment variable;
- an `OSError` that names a file or an address that is taken: what the machine refused.

Ctrl-C ends it without a word and with 130. Everything else is a fault of ours and keeps its traceback. A command that
fails halfway in a way that scripts should tell apart ends with `typer.Exit(code)`.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from mdstore.cli import interrupt

CANNOT_START: Final = 2
"""The exit code of a command that was asked for something that cannot work as it is."""


class CannotStart(Exception):
    """The command cannot begin; the message names the thing, what is wrong with it, and what to do."""


@contextmanager
def one_line_exits() -> Iterator[None]:
    """Turn the errors above, raised inside, into one line on stderr and `SystemExit(2)`, Ctrl-C into one with 130."""
    try:
        yield
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        print(f"mdstore: {line}", file=sys.stderr)  # noqa: T201 - a command's last words are not a log event
        raise SystemExit(CANNOT_START) from None
    except KeyboardInterrupt:
        raise SystemExit(interrupt.EXIT_CODE) from None


def explain(error: Exception) -> str | None:
    """The error in one line, or None when it is a fault of ours that should keep its traceback."""
    if isinstance(error, CannotStart) or _is_metadata_error(error):
        return " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError):
        return _os_error(error)
    return _refused_settings(error)


# Modules are asked for in sys.modules and not imported: an error of theirs cannot exist before they do, and importing
# grpc and pydantic would double the time that `mdstore --help` takes.


def _is_metadata_error(error: Exception) -> bool:
    errors = sys.modules.get("mdstore.errors")
    return errors is not None and isinstance(error, errors.MetadataError)


def _os_error(error: OSError) -> str | None:
    if error.errno == errno.EADDRINUSE:
        return f"the address is taken: {error.strerror}; name another port"
    if error.filename is not None and error.errno is not None:
        return f"{os.fsdecode(error.filename)}: {os.strerror(error.errno)}"
    return None


def _refused_settings(error: Exception) -> str | None:
    pydantic, settings = sys.modules.get("pydantic"), sys.modules.get("pydantic_settings")
    if pydantic is None or settings is None or not isinstance(error, pydantic.ValidationError):
        return None
    prefix = {cls.__name__: str(cls.model_config.get("env_prefix", "")) for cls in _subclasses(settings.BaseSettings)}
    if error.title not in prefix:
        return None  # not what a person has set, but data of ours
    problems = []
    for problem in error.errors(include_url=False):
        name = "_".join(str(part) for part in problem["loc"])
        flag, variable = f"--{name.replace('_', '-')}", f"{prefix[error.title]}{name}".upper()
        problems.append(f"{flag} or {variable}: {problem['msg']}, not {problem['input']!r}")
    return "; ".join(problems)


def _subclasses(cls: Any) -> Iterator[Any]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)
