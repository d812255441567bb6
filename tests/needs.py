"""What some tests need beside .venv, and whether it is here. `python -m tests.needs` says what is not.

A test says what it needs by a marker. Where the need is not met the test is deselected, except in the strict form
(`MDSTORE_TEST_STRICT=1`), where it fails.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.cluster import driver
from tests.databases.servers import mariadb_program, postgresql_programs
from tests.server.room import IN_NAMESPACES

STRICT: Final = os.environ.get("MDSTORE_TEST_STRICT") == "1"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mdstore"


def judge_python() -> Path:
    """The interpreter of the judge's environment, as `script/servers judge` names it."""
    pins = Path(__file__).parent / "judge" / "requirements.txt"
    return CACHE / f"judge-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}" / "bin" / "python"


def chromium() -> str | None:
    """The browser's path, or None."""
    return shutil.which("chromium")


def _no_judge() -> str | None:
    return None if judge_python().exists() else "the ml_metadata client is not installed"


def _no_browser() -> str | None:
    return None if chromium() else "Chromium is not installed"


def _no_postgresql() -> str | None:
    return None if postgresql_programs() else "PostgreSQL's server programs are not installed"


def _no_mariadb() -> str | None:
    return None if mariadb_program() else "MariaDB's server programs are not installed"


def _no_namespaces() -> str | None:
    try:
        subprocess.run((*IN_NAMESPACES, "true"), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "this system lets nobody mount in namespaces of their own"
    return None


def _no_registry() -> str | None:
    return None if STRICT else "asks the package index, so only in the strict form"


NEEDS: Final[Mapping[str, Callable[[], str | None]]] = {
    "cluster": driver.missing,
    "judge": _no_judge,
    "browser": _no_browser,
    "postgresql": _no_postgresql,
    "mariadb": _no_mariadb,
    "namespaces": _no_namespaces,
    "registry": _no_registry,
}
"""Marker → why what it stands for is missing here, or None when it is there."""


def missing() -> dict[str, str]:
    """Marker → reason, of the needs that are not met here."""
    reasons = {name: check() for name, check in NEEDS.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def main() -> None:
    argparse.ArgumentParser(
        description="Say in one line which tests cannot run here, and how to get there."
    ).parse_args()
    if absent := missing():
        reasons = "; ".join(f"{name} ({reason})" for name, reason in absent.items())
        print(f"Did not run: {reasons}. To run all: script/servers as root, then script/test --strict.")


if __name__ == "__main__":
    main()
