"""Logs: events with fields, on stderr. Readable when that is a terminal, one JSON object a line otherwise.

`mdstore.__main__` configures them once before a command runs; modules only say `log = structlog.get_logger()`.
What other libraries log through `logging` comes out in the same shape, so a server that brings a logging
configuration of its own (uvicorn: `log_config=None`) should be told not to.
"""

import logging
import sys
from contextlib import suppress
from enum import Enum
from typing import Final, TextIO, cast

import structlog
from pydantic_settings import BaseSettings, SettingsConfigDict
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor


class LogFormat(Enum):
    """How a log event is written."""

    AUTO = "auto"
    """`color` on a terminal, else `json`."""
    CONSOLE = "console"
    COLOR = "color"
    JSON = "json"


class LogLevel(Enum):
    """The least important events that are still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogSettings(BaseSettings):
    """Logs of every command."""

    model_config = SettingsConfigDict(env_prefix="MDSTORE_", frozen=True, use_attribute_docstrings=True)

    log_level: LogLevel = LogLevel.INFO
    """The least important events that are written: debug, info, warning or error."""
    log_format: LogFormat = LogFormat.AUTO
    """console, color or json; auto: color on a terminal, else json."""


_CHATTY: Final = ("httpx", "httpcore", "urllib3", "kubernetes", "asyncio")
"""Libraries whose every request is an info event."""


class _Unfailing:
    """A stream that drops what it cannot write: a full disk, or a reader who is gone, must stop nothing but the log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure(settings: LogSettings) -> None:
    """Write structlog's events and those of `logging` to stderr, as the settings say."""
    level = logging.getLevelNamesMapping()[settings.log_level.name]
    style = settings.log_format
    if style is LogFormat.AUTO:
        style = LogFormat.COLOR if sys.stderr.isatty() else LogFormat.JSON
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor]
    if style is LogFormat.JSON:
        # Without the values of variables: they are what users store, and passwords in URLs.
        without_values = ExceptionDictTransformer(show_locals=False)
        rendering = [
            structlog.processors.ExceptionRenderer(without_values),
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        rendering = [
            structlog.dev.ConsoleRenderer(
                pad_event_to=0,
                pad_level=False,
                colors=style is LogFormat.COLOR,
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
