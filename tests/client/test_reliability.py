"""Stores that die under steps, steps that die under stores, and replays that die: nothing doubled, nothing lost."""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import mdstore
from mdstore.steps import identity as steps
from mdstore.steps import spool
from mdstore.values import ExecutionState
from tests.client.reading import Stored, stored
from tests.client.servers import Server
from tests.client.test_steps import NOWHERE
from tests.up.processes import Running

pytestmark = pytest.mark.slow

SEED = 20261125
WORKER = Path(__file__).with_name("worker.py")


def read(url: str) -> Stored:
    with mdstore.connect(url) as client:
        return stored(client)


def worker(*arguments: str) -> Running:
    return Running([sys.executable, "-P", str(WORKER), *arguments])


def test_a_store_that_is_killed_and_comes_back_during_a_step_loses_nothing(database: str, spool_folder: Path) -> None:
    with Server(database) as server:
        server.start()
        with worker("hold", server.url) as working:
            working.wait_for(r"\bm5\b")
            server.kill()
            working.wait_for(r"\bm12\b")
            server.start()
            code, _ = working.end(seconds=60)
        assert code == 0, working.printed
        # What came while the store was away, and all that came behind it, went by way of the spool.
        assert list(spool_folder.glob("*.spool")) == []

    found = read(database)
    assert found.execution.state is ExecutionState.COMPLETE
    (metrics,) = found.artifacts.values()
    assert metrics.custom_properties["last"] == 39  # in order
    assert {name: metrics.custom_properties[name] for name in metrics.custom_properties if name[0] == "m"} == {
        f"m{number}": float(number) for number in range(40)
    }


def test_a_step_whose_store_never_comes_back_ends_well_and_is_sent_later(database: str, spool_folder: Path) -> None:
    with Server(database) as server:
        server.start()
        with mdstore.run("s", store=server.url, run_id="r", timeout_s=1.0) as step:
            server.kill()
            step.log_metric("m", 1)
        assert len(list(spool_folder.glob("*.spool"))) == 1
        server.start()
        with mdstore.run("next", store=server.url, run_id="r"):
            pass

    found = read(database)
    assert list(spool_folder.iterdir()) == []
    assert {e.state for e in found.executions.values()} == {ExecutionState.COMPLETE}
    assert found.artifacts["step:r/s/0/metrics"].custom_properties["m"] == 1


def test_steps_that_are_killed_at_random_lose_nothing_that_they_were_told_is_safe(
    database: str, spool_folder: Path
) -> None:
    """The store is killed too, so that some of it is in the store, some in the spool, and some half way."""
    chance = random.Random(SEED)
    safe: set[tuple[str, str, str]] = set()
    with Server(database) as server:
        for attempt in range(8):
            if attempt % 2:
                server.start()
            with worker("log", server.url, f"r{attempt}", "100", str(attempt)) as working:
                working.wait_for("m0")
                time.sleep(chance.uniform(0.0, 0.6))
                if attempt % 2:
                    server.kill()
                    time.sleep(chance.uniform(0.0, 0.4))
                os.kill(working.process.pid, signal.SIGKILL)
                working.end()
                # The last line may be torn, as all that is printed when one is killed.
                whole = working.printed.rpartition("\n")[0].splitlines()
                safe |= {(a, b, c) for a, b, c in (line.split() for line in whole if line.count(" ") == 2)}
        server.start()
        assert spool.files(spool_folder)
        with mdstore.run("last", store=server.url, timeout_s=30.0):
            pass

    assert spool.files(spool_folder) == []
    found = read(database)
    assert len(safe) > 30
    for run_id, name, what in safe:
        base = f"step:{run_id}/{name}/0"
        if what == "end":
            assert found.executions[base].state is ExecutionState.COMPLETE
            assert found.outputs[base]["model"] == f"{base}/model"
        else:
            value = int(name[1:]) * 10 + int(what[1:])
            assert found.artifacts[f"{base}/metrics"].custom_properties[what] == value


def test_a_replay_that_is_killed_at_random_doubles_nothing_and_loses_nothing(database: str, spool_folder: Path) -> None:
    chance = random.Random(SEED)
    expected = set()
    for number in range(60):
        steps._begun.clear()
        with mdstore.run(f"s{number}", store=NOWHERE, run_id=f"r{number % 7}", timeout_s=0.1) as step:
            step.input("table", "s3://b/table")
            for metric in range(5):
                step.log_metric(f"m{metric}", metric)
                step.flush()
            step.output("model", f"s3://b/{number}", type="system.Model")
        expected.add(f"step:r{number % 7}/s{number}/0")
    files = len(spool.files(spool_folder))
    assert files == 60

    kills = 0
    with Server(database) as server:
        server.start()
        for _ in range(40):
            with worker("replay", str(spool_folder), server.url) as replaying:
                replaying.wait_for("replaying")
                time.sleep(chance.uniform(0.0, 0.15))
                if replaying.process.poll() is None:
                    os.kill(replaying.process.pid, signal.SIGKILL)
                    kills += 1
                replaying.end()
            if not spool.files(spool_folder):
                break
            if kills >= 12:
                break
        with worker("replay", str(spool_folder), server.url) as replaying:
            code, _ = replaying.end(seconds=60)
            assert code == 0, replaying.printed

    assert kills >= 3
    assert spool.files(spool_folder) == []
    found = read(database)
    assert found.executions.keys() == expected
    assert {e.state for e in found.executions.values()} == {ExecutionState.COMPLETE}
    for base in expected:
        assert found.inputs[base] == {"table": "uri:s3://b/table"}
        assert found.outputs[base] == {"model": f"{base}/model", "metrics": f"{base}/metrics"}
        assert all(found.artifacts[f"{base}/metrics"].custom_properties[f"m{metric}"] == metric for metric in range(5))
    assert len(found.artifacts) == 2 * len(expected) + 1


@pytest.mark.parametrize("place", ["in process", "over gRPC"])
def test_fifty_steps_at_the_same_time(place: str, request: pytest.FixtureRequest, spool_folder: Path) -> None:
    database = request.getfixturevalue("database")
    url = database if place == "in process" else f"grpc://127.0.0.1:{request.getfixturevalue('port')}"
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with mdstore.run("parallel", store=client, run_id="r", attempt=number, pipeline="p", timeout_s=30) as step:
                step.input("table", "s3://b/table")
                for metric in range(3):
                    step.log_metric(f"m{metric}", number)
                    step.flush()
                step.output("model", f"s3://b/{number}", type="system.Model")
        except BaseException as error:
            failures.append(error)

    with mdstore.connect(url) as opened:
        # One database is opened once in one process; over gRPC each step makes a connection of its own.
        client = opened if place == "in process" else url
        threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = stored(opened)

    assert failures == []
    assert spool.files(spool_folder) == []
    assert found.executions.keys() == {f"step:r/parallel/{number}" for number in range(50)}
    assert {e.state for e in found.executions.values()} == {ExecutionState.COMPLETE}
    assert len(found.artifacts) == 101
    assert set(found.contexts) == {"r", "p"}
    assert {found.inputs[base]["table"] for base in found.executions} == {"uri:s3://b/table"}


@pytest.mark.parametrize("hours", [-1000, 1000])
def test_a_clock_that_is_wrong_changes_no_lineage(
    hours: int, database: str, monkeypatch: pytest.MonkeyPatch, spool_folder: Path
) -> None:
    now = time.time_ns

    def step(name: str, *, skewed: bool) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: now() + (hours * 3600 * 10**9 if skewed else 0))
        with mdstore.run(name, store=client, run_id="r") as logged:
            logged.input("table", "s3://b/table")
            logged.output("table", "s3://b/table")

    with mdstore.connect(database) as client:
        for number in range(6):
            step(f"s{number}", skewed=bool(number % 2))
        monkeypatch.undo()
        found = stored(client)

    assert found.inputs["step:r/s0/0"] == {"table": "uri:s3://b/table"}
    for number in range(1, 6):
        assert found.inputs[f"step:r/s{number}/0"] == {"table": f"step:r/s{number - 1}/0/table"}
    assert {e.state for e in found.executions.values()} == {ExecutionState.COMPLETE}
