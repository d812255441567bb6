"""The recorded events of `examples/`, as values."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from mdstore_writer import argo
from mdstore_writer.interpret import interpret
from mdstore_writer.observe import ObservedRun, Observer
from mdstore_writer.records import ExecutionRecord, Records

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
NAMES: Final = sorted(path.parent.name for path in EXAMPLES.glob("*/workflows.jsonl"))
KINDS: Final = ("workflows", "pods", "workflowtaskresults")

Event = Mapping[str, Any]


@cache
def events(name: str) -> tuple[Event, ...]:
    """All events of a recording, in the order in which they happened."""
    lines = [line for kind in KINDS for line in (EXAMPLES / name / f"{kind}.jsonl").read_bytes().splitlines()]
    return tuple(sorted(map(orjson.loads, lines), key=lambda event: argo.version(event["object"]["metadata"])))


def observed(given: Iterable[Event]) -> dict[str, ObservedRun]:
    """What is known after these events, by workflow name."""
    observer = Observer("here")
    for event in given:
        observer.observe(event, "test")
    return {run.workflow.name: run for run in observer.runs()}


def run(name: str, workflow: str | None = None) -> Records:
    """What a recording's workflow ends as."""
    return interpret(observed(events(name))[workflow or name])


def execution(records: Records, display_name: str, attempt: int = 0) -> ExecutionRecord:
    """The only execution that is called so."""
    found = [
        record
        for record in records.executions
        if {**record.default_properties, **record.properties}.get("display_name") == display_name
        and record.properties.get("attempt", 0) == attempt
    ]
    assert len(found) == 1, f"{len(found)} executions are called {display_name}"
    return found[0]


def states(records: Records) -> dict[tuple[str, int], str]:
    """(display name, attempt) -> state."""
    return {
        (
            str({**record.default_properties, **record.properties}["display_name"]),
            int(str(record.properties.get("attempt", 0))),
        ): record.state.name if record.state is not None else ""
        for record in records.executions
    }
