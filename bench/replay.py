"""Replay of recorded watch streams into SQLite with full durability, in watch events a second."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.tables import Figure, Sheet

EXAMPLES = Path(__file__).parent.parent / "examples"
ENOUGH = 300
"""Watch events of a recording that is worth timing alone."""


def count(folder: Path) -> int:
    return sum(1 for file in folder.glob("*.jsonl") for _ in file.open("rb"))


def run(repeats: int) -> Iterator[Sheet]:
    """Measure; gives one sheet."""
    sheet = Sheet(
        title="mdstore writer replay into SQLite (medians, whole process)",
        headings=("recording", "watch events", "seconds", "start-up s", "events/s after start-up"),
    )
    with tempfile.TemporaryDirectory(prefix="mdstore-bench-") as name:
        empty = Path(name) / "empty"
        empty.mkdir()
        (empty / "pods.jsonl").touch()
        start_up = median(replay([empty]) for _ in range(repeats))
    folders = sorted(folder.parent for folder in EXAMPLES.glob("*/workflows.jsonl"))
    # Small ones take no longer than the start of the process.
    large = {folder.name: [folder] for folder in folders if count(folder) > ENOUGH}
    for label, chosen in {**large, "all": folders}.items():
        events = sum(map(count, chosen))
        seconds = median(replay(chosen) for _ in range(repeats))
        speed = events / max(seconds - start_up, 1e-9)
        figures = Figure(events, digits=0), Figure(seconds), Figure(start_up), Figure(speed, digits=0)
        sheet.rows.append((label, *figures))
    yield sheet


def replay(folders: list[Path]) -> float:
    with tempfile.TemporaryDirectory(prefix="mdstore-bench-") as name:
        url = f"sqlite:///{Path(name) / 'metadata.db'}"
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "mdstore", "writer", "replay", *folders, "--store", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        elapsed = time.perf_counter() - started
    if done.returncode not in {0, 3}:
        raise RuntimeError(f"the replay of {folders} ended with {done.returncode}")
    return elapsed
