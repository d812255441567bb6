"""Children that a step forks, as `multiprocessing` does: they log to it, and begin steps inside of it."""

import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.steps import deliver, spool
from tests.client.reading import Stored, stored
from tests.client.servers import Server
from tests.up.processes import until


def read(url: str) -> Stored:
    with mdstore.connect(url) as client:
        return stored(client)


def forked(work: Callable[[], object]) -> int:
    """A child that does some work and is gone, whatever came of it."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int, *, seconds: float = 30.0) -> int:
    """The exit code of a child; one that does not end is killed."""
    found: list[int] = []

    def look() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            found.append(os.waitstatus_to_exitcode(status))
        return bool(pid)

    try:
        until("the child's end", look, seconds=seconds)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return found[0]


@pytest.mark.parametrize("is_handed_in", [False, True], ids=["url", "client"])
def test_steps_of_forked_children_are_steps_of_their_own(
    database: str, spool_folder: Path, *, is_handed_in: bool
) -> None:
    def trial(number: int) -> None:
        for count in range(2):
            with mdstore.run("trial") as step:
                step.log_metric("number", 10 * number + count)

    with Server(database) as server:
        server.start()
        store: Any = mdstore.connect(server.url) if is_handed_in else server.url
        with mdstore.run("search", store=store, run_id="r"):
            children = [forked(lambda number=number: trial(number)) for number in range(3)]  # type: ignore[misc]
            assert [ended(child) for child in children] == [0, 0, 0]
            trial(9)
        if is_handed_in:
            store.close()
        with mdstore.connect(server.url) as client:
            for path in spool.files(spool_folder) if spool_folder.is_dir() else ():
                deliver.replay(path, client)

    found = read(database)
    trials = {name: e for name, e in found.executions.items() if e.custom_properties["display_name"] == "trial"}
    assert len(trials) == 8
    assert {e.custom_properties["parent"] for e in trials.values()} == {"step:r/search/0"}
    assert sorted(
        metrics.custom_properties["number"]
        for name, metrics in found.artifacts.items()
        if name.removesuffix("/metrics") in trials
    ) == [0, 1, 10, 11, 20, 21, 90, 91]


def test_a_child_that_is_forked_while_a_thread_sends_does_not_hang(spool_folder: Path) -> None:
    # Somebody who answers nothing: sending takes all of its time.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        step = mdstore.run("s", store=url, run_id="r", timeout_s=4.0)
        beginning = threading.Thread(target=step.start)
        beginning.start()
        until("it connects", lambda: select.select([silent], [], [], 0)[0], seconds=10)

        def log() -> None:
            step.log_metric("child", 2)
            step.flush()

        assert ended(forked(log), seconds=30) == 0
        beginning.join()
        step.end()

    kept = b"".join(path.read_bytes() for path in spool.files(spool_folder))
    assert b"child" in kept
    assert spool.files(spool_folder)


def test_a_child_does_not_say_again_what_its_parent_has_said(database: str) -> None:
    with Server(database) as server:
        server.start()
        with mdstore.run("s", store=server.url, run_id="r") as step:
            step.log_metric("loss", 0.9)
            may_go, go = os.pipe()

            def log() -> None:
                os.read(may_go, 1)
                step.log_metric("child", 2)
                step.flush()

            child = forked(log)
            step.log_metric("loss", 0.1)
            step.flush()
            os.write(go, b"x")
            assert ended(child) == 0
            os.close(may_go)
            os.close(go)

    (metrics,) = read(database).artifacts.values()
    assert (metrics.custom_properties["loss"], metrics.custom_properties["child"]) == (0.1, 2)
