"""Processes that log steps and are killed while they do. `python worker.py WHAT ARGUMENT...`

What a process has been told is safe it prints, so that whoever killed it knows what must be in the store.
"""

import random
import sys
import time
from pathlib import Path

import mdstore
from mdstore.steps import deliver, spool


def log(store: str, run_id: str, steps: int, seed: int) -> None:
    """Steps, each with a few flushes; prints `RUN STEP METRIC` for each metric that `flush` has taken."""
    chance = random.Random(seed)
    for number in range(steps):
        with mdstore.run(f"s{number}", store=store, run_id=run_id, timeout_s=0.5) as step:
            for metric in range(chance.randint(1, 4)):
                step.log_metric(f"m{metric}", number * 10 + metric)
                step.flush()
                print(run_id, f"s{number}", f"m{metric}", flush=True)
            step.output("model", f"s3://b/{run_id}/{number}", type="system.Model")
        print(run_id, f"s{number}", "end", flush=True)


def replay(folder: str, store: str) -> None:
    """Send all files in a folder, one after the other; prints each."""
    with mdstore.connect(store) as client:
        print("replaying", flush=True)
        for path in spool.files(Path(folder)):
            deliver.replay(path, client)
            print(path.name, flush=True)


def hold(store: str) -> None:
    """A step that takes its time and says when it has begun."""
    with mdstore.run("long", store=store, run_id="r", timeout_s=1.0) as step:
        for number in range(40):
            step.log_metrics({f"m{number}": number, "last": number})
            step.flush()
            print(f"m{number}", flush=True)
            time.sleep(0.1)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "log":
        log(arguments[0], arguments[1], int(arguments[2]), int(arguments[3]))
    elif what == "replay":
        replay(*arguments)
    else:
        hold(*arguments)
