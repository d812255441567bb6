"""The demo data of `mdstore up --demo`: recorded events of real workflows, replayed into the store once.

Members name the folders that hold them in the entry-point group `mdstore.demo`. Replaying again changes nothing but
takes time, so a marker in the data folder says what was replayed.
"""

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from mdstore.cli.exits import CannotStart
from mdstore.services import Plan, Service

GROUP: Final = "mdstore.demo"
MARKER: Final = "demo.replayed"


def directories() -> list[Path]:
    """The folders of recorded events.

    Raises:
        CannotStart: no installed member has any, or one is not there.
    """
    found = [Path(path) for point in sorted(metadata.entry_points(group=GROUP)) for path in point.load()()]
    if not found:
        raise CannotStart("--demo needs recorded events, which come with mdstore-writer")
    for path in found:
        if not path.is_dir():
            raise CannotStart(f"the demo's recorded events are not there: {path}")
    return found


def replay(plan: Plan, paths: Sequence[Path]) -> Service:
    """The command that records them."""
    return Service(name="replay", arguments=("writer", "replay", *map(str, paths), "--store", plan.store_url))


class Marker:
    """Says that these recorded events are in the plan's database."""

    def __init__(self, plan: Plan, paths: Sequence[Path]) -> None:
        """Look into the data folder, before the store is started."""
        self._file = plan.data / MARKER
        digest = hashlib.sha256()
        for path in paths:
            for file in sorted(path.rglob("*")):
                digest.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        self._digest = digest.hexdigest()
        if not Path(plan.database_url.removeprefix("sqlite:///")).exists():
            self._file.unlink(missing_ok=True)  # somebody took the database away and left the marker

    @property
    def is_set(self) -> bool:
        """They were replayed completely."""
        try:
            return self._file.read_text() == self._digest
        except OSError:
            return False

    def set(self) -> None:
        """Remember that they were."""
        self._file.write_text(self._digest)
