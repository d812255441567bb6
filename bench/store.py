"""PutExecution with three artifacts: mdstore beside the original library, in one run.

Each repetition measures all servers one after the other, on empty databases, and the ratios are taken within it: so
the machine's moods meet all of them alike. Durability: ours commits with a write-ahead log and synchronous=FULL, the
library with its default rollback journal and synchronous=FULL.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import servers


def measure(server: AbstractContextManager[int], clients: int, seconds: float) -> dict[str, Any]:
    with server as port:
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", str(port), str(clients), str(seconds)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60 + seconds * 4,
        )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def run(console: Console, clients: list[int], repeats: int, seconds: float) -> list[dict[str, Any]]:
    table = Table(title="PutExecution with 3 artifacts, SQLite (medians)")
    for heading in ("clients", "server", "calls/s", "p50 ms", "p99 ms", "mdstore is x times as fast", "failures"):
        table.add_column(heading, justify="right")
    results = []
    for number in clients:
        found: dict[str, list[dict[str, Any]]] = {"mdstore": [], "library, pooled": [], "library, per call": []}
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(prefix="mdstore-bench-") as name:
                folder = Path(name)
                found["mdstore"].append(measure(servers.store(folder), number, seconds))
            for mode, label in (("pooled", "library, pooled"), ("fresh", "library, per call")):
                with tempfile.TemporaryDirectory(prefix="mdstore-bench-") as name:
                    found[label].append(measure(servers.peer(Path(name), mode), number, seconds))
        for label, measured in found.items():
            ratios = [
                ours["per_second"] / theirs["per_second"]
                for ours, theirs in zip(found["mdstore"], measured, strict=True)
                if theirs["per_second"]
            ]
            failures: dict[str, int] = {}
            for one in measured:
                for code, count in one["failures"].items():
                    failures[code] = failures.get(code, 0) + count
            row = {
                "clients": number,
                "server": label,
                "per_second": median(one["per_second"] for one in measured),
                "p50_ms": median(one["p50_ms"] or 0 for one in measured),
                "p99_ms": median(one["p99_ms"] or 0 for one in measured),
                "ratio": median(ratios) if ratios else None,
                "failures": failures,
            }
            results.append(row)
            table.add_row(
                str(number),
                label,
                f"{row['per_second']:.0f}",
                f"{row['p50_ms']:.1f}",
                f"{row['p99_ms']:.1f}",
                "" if label == "mdstore" else f"{row['ratio']:.1f}",
                str(failures or ""),
            )
    console.print(table)
    return results
