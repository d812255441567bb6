"""Log events, of structlog and of `logging`, as a process writes them to stderr."""

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from mdstore.cli import logs
logs.configure(logs.LogSettings())
log = structlog.get_logger()
log.debug("counted", of="stars")
log.info("projected", events=3, name="größe")
logging.getLogger("uvicorn.error").warning("late by %d s", 4)
logging.getLogger("httpx").info("a request")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def stderr(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin", **environment},
        check=True,
    )
    assert not done.stdout
    return done.stderr


def test_each_event_is_one_line_of_json_when_stderr_is_no_terminal() -> None:
    projected, late, failed = map(json.loads, stderr().splitlines())
    assert projected.pop("timestamp").endswith("Z")
    assert projected == {"event": "projected", "events": 3, "name": "größe", "level": "info"}
    assert late["event"] == "late by 4 s"
    assert (late["level"], late["logger"]) == ("warning", "uvicorn.error")
    assert failed["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_the_level_and_the_format_are_settings() -> None:
    printed = stderr(MDSTORE_LOG_LEVEL="debug", MDSTORE_LOG_FORMAT="console")
    first, second, *_ = printed.splitlines()
    assert "counted" in first
    assert "of=stars" in first
    assert "projected" in second
    assert "\x1b[" not in printed
    assert "\x1b[" in stderr(MDSTORE_LOG_FORMAT="color")
    assert [json.loads(line)["event"] for line in stderr(MDSTORE_LOG_LEVEL="error").splitlines()] == ["failed"]
