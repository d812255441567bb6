"""`feed`: the change log and a snapshot as streams over gRPC.

The server is bound to one core and the reader to the others. It reads bytes, as a reader in another language would
whose unpacking costs little; what Python's client makes of them is measured too.
"""

import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

import mdstore
from bench import growth, servers, world
from bench.calls import CALLS, PREFIX
from bench.databases import bed
from bench.servers import Serving
from bench.tables import Figure, Sheet
from mdstore.store.store import Store
from mdstore.wire import changes, service

ALONE: Final = 3000
"""Commits of one PutExecution each."""
GROUPED: Final = 30_000
"""PutExecutions that come faster than one at a time, so that up to 64 are in one commit."""
EVENTS_PER_S: Final = 100_000
SNAPSHOT_MIB: Final = 16
"""By which a snapshot may make the server grow, whatever the store: SQLite's cache for one connection, 12 MiB, and a
page of half a MiB at most, which as rows, messages and bytes takes eight times that."""
UNLIMITED: Final = [("grpc.max_receive_message_length", -1)]


def run(engines: Sequence[str], sizes: Sequence[int], *, data: Path) -> Iterator[Sheet]:
    """Measure; gives two sheets.

    Args:
        engines: databases, of `ENGINES`.
        sizes: numbers of executions in the stores for snapshots, as `growth` keeps them.
        data: the folder for large stores.
    """
    follow = Sheet(
        title="Follow over gRPC, the server on one core",
        headings=(
            "log",
            "database",
            "commits",
            "events",
            "events/s (goal)",
            "MB/s",
            "server CPU s",
            "unpacked events/s",
        ),
    )
    for engine in engines:
        with bed(engine) as place:
            world.build(place, "feed", 20_000)
            with Store.open(place.url("feed")) as store:
                ranges = [("of a database that was there", 1, store.head_seq())]
                call, before = CALLS[0], store.head_seq()
                messages = call.make(20_000, random.Random(1))
                for number in range(ALONE):
                    store.call(PREFIX + call.method, messages[number % len(messages)])
                ranges.append(("one PutExecution a commit", before + 1, store.head_seq()))
                before, rpc = store.head_seq(), store.find(PREFIX + call.method)
                waiting = [store.submit(rpc, messages[number % len(messages)]) for number in range(GROUPED)]
                for future in waiting:
                    future.result()
                ranges.append(("PutExecutions of many clients", before + 1, store.head_seq()))
            with servers.store(place, "feed", seconds=60) as server, one_core(server):
                for title, start, end in ranges:
                    follow.rows.append((title, engine, *_follow(server, start, end)))
    yield follow
    sheet = Sheet(
        title="Snapshot over gRPC: the server's memory, MiB",
        headings=("executions", "database", "seconds", "nodes and links/s", "before", "most", "more (goal)"),
    )
    for engine in engines:
        for size in sizes:
            with bed(engine, data if size >= growth.KEPT_FROM else None) as place:
                growth.prepare(place, size, data)
                with servers.store(place, growth.name(size), seconds=120) as server:
                    *figures, more = _snapshot(server)
                    sheet.rows.append((f"{size:,}", engine, *figures, Figure(more, at_most=SNAPSHOT_MIB, digits=0)))
    yield sheet


@contextmanager
def one_core(server: Serving) -> Iterator[None]:
    """Bind the server to one core, and this process to the others."""
    cores = sorted(os.sched_getaffinity(0))
    for pid in server.pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cores[:1])
    os.sched_setaffinity(0, cores[1:] or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _follow(server: Serving, start: int, end: int) -> list[Figure]:
    request = changes.FollowRequest(from_seq=start).SerializeToString()
    pages: list[bytes] = []
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=UNLIMITED) as channel:
        grpc.channel_ready_future(channel).result()
        began, cpu = time.perf_counter(), server.cpu_s()
        for message in channel.unary_stream("/mdstore.v1.ChangeFeed/Follow")(request):
            pages.append(message)
            if changes.PackedFollowResponse.FromString(message).commits[-1].seq >= end:
                break
        seconds, cpu = time.perf_counter() - began, server.cpu_s() - cpu
    commits = [commit for page in pages for commit in changes.FollowResponse.FromString(page).commits]
    with mdstore.connect(f"grpc://127.0.0.1:{server.port}") as store:
        began, events = time.perf_counter(), 0
        for response in store.follow(start):
            events += sum(len(commit.changes.events) for commit in response.commits)
            if response.commits[-1].seq >= end:
                break
        unpacking = time.perf_counter() - began
    return [
        Figure(len(commits), digits=0),
        Figure(events, digits=0),
        Figure(sum(len(commit.changes.events) for commit in commits) / seconds, at_least=EVENTS_PER_S, digits=0),
        Figure(sum(map(len, pages)) / seconds / 1e6, digits=0),
        Figure(cpu),
        Figure(events / unpacking, digits=0),
    ]


def _snapshot(server: Serving) -> tuple[Figure, Figure, Figure, Figure, float]:
    _first_answer(server)
    before = server.rss_bytes()
    most = before
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, server.rss_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    things = 0
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=UNLIMITED) as channel:
            stream: Any = channel.unary_stream(
                "/mdstore.v1.ChangeFeed/Snapshot", response_deserializer=changes.SnapshotResponse.FromString
            )
            began = time.perf_counter()
            for page in stream(changes.SnapshotRequest().SerializeToString()):
                things += sum(len(value) for field, value in page.changes.ListFields() if "created" not in field.name)
            seconds = time.perf_counter() - began
    finally:
        done.set()
        watcher.join()
    return (
        Figure(seconds, digits=1),
        Figure(things / seconds, digits=0),
        Figure(before / 2**20, digits=0),
        Figure(most / 2**20, digits=0),
        (most - before) / 2**20,
    )


def _first_answer(server: Serving) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = service.GetExecutionsByIDRequest(execution_ids=[1])
        channel.unary_unary(PREFIX + "GetExecutionsByID")(request.SerializeToString())
