"""Recorded watch events, from files of JSON lines into a store: to the same result as the live cluster would have led.

A folder is one recording: its files are read together and its events taken in the order of their resourceVersion, which
is the only thing that orders events of different watches. Lines that mean nothing go into quarantine. What depends
on the whole source (see `record`) is decided at the end of all folders.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    file: Path
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
        lines = sorted(_index(folder, bad), key=lambda line: line.order)
        waiting = 0
        for line, event in _events(lines):
            try:
                outcome = observer.observe(event, f"{line.file.resolve()}:{line.number}")
            except Unreadable as error:
                bad.append(quarantine.unreadable_line(str(line.file.resolve()), line.number, str(error), _raw(line)))
                outcome = Outcome.NOT_OURS
            summary.events += outcome in {Outcome.CHANGED, Outcome.NOTHING_NEW}
            if outcome is Outcome.SERVER_ERROR:
                summary.watch_errors += 1
                log.info("passed over an error of the watch", file=str(line.file), line=line.number)
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


def _index(folder: Path, bad: list[Entry]) -> Iterator[Line]:
    """Where the folder's events are; lines that are no JSON object go into `bad`."""
    for file in sorted(folder.glob("*.jsonl")):
        offset = 0
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                start, offset = offset, offset + len(raw)
                if not raw.strip():
                    continue
                try:
                    event = orjson.loads(raw)
                except orjson.JSONDecodeError as error:
                    cut = " (the line is cut off)" if not raw.endswith(b"\n") else ""
                    bad.append(quarantine.unreadable_line(str(file.resolve()), number, f"not JSON: {error}{cut}", raw))
                    continue
                if not isinstance(event, dict):
                    reason = f"a watch event is a JSON object, this is {type(event).__name__}"
                    bad.append(quarantine.unreadable_line(str(file.resolve()), number, reason, raw))
                    continue
                order = argo.version(mapping(mapping(event.get("object")).get("metadata")))
                yield Line(order, file, start, len(raw), number)


def _events(lines: Sequence[Line]) -> Iterator[tuple[Line, Mapping[str, Any]]]:
    """The events at these places, read one by one: a recording may be larger than memory."""
    streams = {file: file.open("rb") for file in {line.file for line in lines}}
    try:
        for line in lines:
            stream = streams[line.file]
            stream.seek(line.offset)
            yield line, orjson.loads(stream.read(line.bytes))
    finally:
        for stream in streams.values():
            stream.close()


def _raw(line: Line) -> bytes:
    with line.file.open("rb") as stream:
        stream.seek(line.offset)
        return stream.read(min(line.bytes, quarantine.RAW_CHARACTERS * 4))


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
