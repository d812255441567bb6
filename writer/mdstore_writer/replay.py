"""Recorded watch events, from files of JSON lines into a store: to the same result as the live cluster would have led.

A folder is one recording: its files are read together and its events taken in the order of their resourceVersion, which
is the only thing that orders events of different watches. Lines that mean nothing go into quarantine. What depends
on the whole source (see `record`) is decided at the end of all folders.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from mdstore.client.client import Client
from mdstore_writer import argo, quarantine
from mdstore_writer.argo import mapping
from mdstore_writer.observe import Observer, Outcome, Unreadable
from mdstore_writer.patience import patiently
from mdstore_writer.quarantine import Entry
from mdstore_writer.record import Recorder
from mdstore_writer.requests import Requests

log = structlog.get_logger()

FLUSH_EVENTS: Final = 1_000
"""Events between two flushes: many changes in one transaction, and no more than these to do again after a kill."""

Progress = Callable[[int], None]
"""Called with the number of lines done since the last call."""


class NothingToReplay(Exception):
    """A folder that is not there, or holds no recorded events."""


@dataclass(frozen=True, slots=True)
class Line:
    """Where an event is."""

    order: int
    """Its resourceVersion; -1 when it has none."""
    file: str
    """Its absolute path."""
    offset: int
    bytes: int
    number: int
    """From 1."""


@dataclass(slots=True)
class Summary:
    """What a replay did."""

    events: int = 0
    """Lines that were events of the objects that we read."""
    runs: set[str] = field(default_factory=set)
    quarantined: int = 0
    """Things in quarantine of what was replayed."""
    watch_errors: int = 0
    """ERROR events: the watch that was recorded had to begin again there."""


def recordings(paths: Sequence[Path]) -> list[Path]:
    """The folders with recorded events: those given, or those in them.

    Raises:
        NothingToReplay: one is not there, or holds no `*.jsonl`.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise NothingToReplay(f"{path} is not a folder: name folders with recorded events (*.jsonl)")
        folders = [path] if any(path.glob("*.jsonl")) else [f for f in sorted(path.iterdir()) if any(f.glob("*.jsonl"))]
        if not folders:
            raise NothingToReplay(f"{path} holds no recorded events (*.jsonl)")
        found.extend(folders)
    return found


def count_lines(folder: Path) -> int:
    """How many lines the files of a folder have."""
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl"))


def replay(
    client: Client,
    folders: Sequence[Path],
    *,
    cluster: str,
    progress: Progress = lambda _: None,
) -> Summary:
    """Record all events of these folders.

    Args:
        client: the store.
        folders: as `recordings` gives them.
        cluster: the name of the cluster that the events are from.
        progress: is told how far it is.

    Raises:
        MetadataError: the store does not take it; what was recorded stays, and doing it again goes on from there.
    """
    observer = Observer(cluster)
    recorder = Recorder(client, observer)
    summary = Summary()
    bad_lines = 0
    for folder in folders:
        bad: list[Entry] = []
        waiting = 0
        for line, raw in _read(sorted(_index(folder), key=lambda line: line.order)):
            try:
                outcome = observer.observe(_event(raw), f"{line.file}:{line.number}")
            except Unreadable as error:
                bad.append(quarantine.unreadable_line(line.file, line.number, str(error), raw))
                outcome = Outcome.NOT_OURS
            summary.events += outcome in {Outcome.CHANGED, Outcome.NOTHING_NEW}
            if outcome is Outcome.SERVER_ERROR:
                summary.watch_errors += 1
                log.info("passed over an error of the watch", file=line.file, line=line.number)
            waiting += 1
            if waiting == FLUSH_EVENTS:
                patiently(recorder.flush)
                progress(waiting)
                waiting = 0
        patiently(recorder.flush)
        patiently(lambda: _keep_unreadable(client, folder, bad))  # noqa: B023 (called at once)
        progress(waiting)
        bad_lines += len(bad)
    observer.end()
    patiently(recorder.settle)
    summary.runs = {run.workflow.uid for run in observer.runs()}
    summary.quarantined = bad_lines + len(recorder.problems)
    return summary


_VERSION: Final = re.compile(rb'"resourceVersion"\s*:\s*"([0-9]+)"')


def _index(folder: Path) -> Iterator[Line]:
    """Where the folder's lines are, and where in the order of events they belong."""
    for file in sorted(folder.glob("*.jsonl")):
        offset, name = 0, str(file.resolve())
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                if raw.strip():
                    yield Line(_order(raw), name, offset, len(raw), number)
                offset += len(raw)


def _order(raw: bytes) -> int:
    """An event's resourceVersion. Reading it out of the text saves to parse each line twice."""
    found = _VERSION.findall(raw)
    if len(found) == 1:
        return int(found[0])
    try:
        return argo.version(mapping(mapping(mapping(orjson.loads(raw)).get("object")).get("metadata")))
    except orjson.JSONDecodeError:
        return -1


def _read(lines: Sequence[Line]) -> Iterator[tuple[Line, bytes]]:
    """The text of these lines, one by one: a recording may be larger than memory."""
    with ExitStack() as stack:
        streams = {name: stack.enter_context(Path(name).open("rb")) for name in {line.file for line in lines}}
        for line in lines:
            stream = streams[line.file]
            stream.seek(line.offset)
            yield line, stream.read(line.bytes)


def _event(raw: bytes) -> Mapping[str, Any]:
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        cut = "" if raw.endswith(b"\n") else " (the line is cut off)"
        raise Unreadable(f"not JSON: {error}{cut}") from error
    if not isinstance(event, dict):
        raise Unreadable(f"a watch event is a JSON object, this is {type(event).__name__}")
    return event


def _keep_unreadable(client: Client, folder: Path, bad: Sequence[Entry]) -> None:
    """Put lines into quarantine, and take out those of the same files that can be read by now."""
    requests = Requests()
    now = {entry.key for entry in bad}
    for file in sorted(folder.glob("*.jsonl")):
        for entry in quarantine.entries(client, quarantine.line_prefix(str(file.resolve()))):
            if entry.key not in now:
                requests.document(quarantine.COLLECTION, entry.key, None)
    for entry in bad:
        log.warning("quarantined", place=entry.place, reason=entry.reason)
        requests.document(quarantine.COLLECTION, entry.key, entry.content())
    for request in requests.take():
        client.ingest(request)
