"""`kill -9` of any child, or of everything, at random moments.

Nothing that was acknowledged is lost, nothing is doubled, and the graph catches up by itself.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

import mdstore
from mdstore.cli import ports
from mdstore.cli.demo import MARKER
from mdstore.wire import service
from tests.up import story
from tests.up.chains import STEP, Chain
from tests.up.processes import Running, is_alive, until

pytestmark = [pytest.mark.serial, pytest.mark.slow]

SEED = 20261118
SERVICES = {"serve": "store", "lineage": "lineage", "graphql": "graphql", "writer": "replay"}


class System:
    """`mdstore up` on fixed ports and one folder; killed and started again."""

    def __init__(self, data: Path, *options: str) -> None:
        self.grpc_port, self.http_port = ports.any_free(), ports.any_free()
        self.store_url = f"grpc://127.0.0.1:{self.grpc_port}"
        addresses = ["--grpc-port", str(self.grpc_port), "--http-port", str(self.http_port)]
        self._command = [sys.executable, "-P", "-m", "mdstore", "up", "--data", str(data), *addresses, *options]
        self.running = Running(self._command)

    def start(self) -> None:
        self.running = Running(self._command)

    def ready(self) -> None:
        self.running.wait_for("mdstore is ready after", seconds=60)

    def services(self) -> dict[str, int]:
        """Service → process id, of those that run."""
        found = {}
        for pid in self.running.children():
            line = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
            called = re.search(r"-m mdstore (\w+)", line.stdout)
            # A child that was just forked still has its parent's command line.
            if called and called[1] in SERVICES:
                found[SERVICES[called[1]]] = pid
        return found

    def kill(self, name: str) -> bool:
        """Kill a service; False when it does not run at this moment."""
        pid = self.services().get(name)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def kill_all(self) -> None:
        pids = [self.running.process.pid, *self.running.children()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.running.end()
        until("all are gone", lambda: not any(map(is_alive, pids)))

    def kill_the_supervisor(self) -> None:
        """Its children have to end by themselves; the next one waits for that."""
        self.running.send(signal.SIGKILL)
        self.running.end()

    def stop(self) -> None:
        children = self.running.children()
        self.running.send(signal.SIGINT)
        code, took = self.running.end()
        assert (code, took < 3) == (0, True), f"exit code {code} after {took:.1f} s:\n{self.running.printed}"
        assert not any(map(is_alive, children))

    def ask(self, query: str, **variables: object) -> Any:
        url = f"http://127.0.0.1:{self.http_port}/graphql"
        answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=30).json()
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]


def shape(system: System, chain: Chain) -> tuple[int, int, int, bool]:
    """What is upstream of a chain's end: artifacts, executions, edges, and whether that is all."""
    found = system.ask(
        "query ($uri: String!) { artifact(uri: $uri) { lineage(maxNodes: 10000) { "
        "nodes { __typename } edges { name } truncated } } }",
        uri=chain.last_uri,
    )["artifact"]["lineage"]
    kinds = [node["__typename"] for node in found["nodes"]]
    return kinds.count("Artifact"), kinds.count("Execution"), len(found["edges"]), not found["truncated"]


def whole(chain: Chain) -> tuple[int, int, int, bool]:
    """What `shape` has to be: each step and its artifact once, and all edges but the first step's missing input."""
    steps = chain.acknowledged
    return steps, steps, 2 * steps - 1, True


def check_store(url: str, chains: Sequence[Chain]) -> None:
    """Each acknowledged step is there once with its events, no other is, and the log has no gap."""
    with mdstore.connect(url) as client:
        executions = client.get_executions_by_type(service.GetExecutionsByTypeRequest(type_name=STEP)).executions
        wanted = sorted(f"{chain.name}-{number}" for chain in chains for number in range(chain.acknowledged))
        assert sorted(execution.name for execution in executions) == wanted
        ids = [execution.id for execution in executions]
        events = client.get_events_by_execution_ids(service.GetEventsByExecutionIDsRequest(execution_ids=ids)).events
        assert len(events) == sum(2 * chain.acknowledged - 1 for chain in chains)
        assert len({(event.artifact_id, event.execution_id, event.type) for event in events}) == len(events)
        log = [commit.seq for response in client.follow(once=True) for commit in response.commits]
        assert log == list(range(1, len(log) + 1))


def test_nothing_acknowledged_is_lost_and_nothing_is_doubled_over_twenty_kills(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    system = System(tmp_path / "data")
    system.ready()
    chains = [Chain(f"chain{number}", system.store_url) for number in range(3)]
    # Everything twice, the supervisor alone twice, and each service at least four times, in random order.
    kills = ["all"] * 2 + ["supervisor"] * 2 + ["store"] * 8 + ["lineage"] * 4 + ["graphql"] * 4
    moments.shuffle(kills)
    for target in kills:
        time.sleep(moments.uniform(0.05, 1.5))
        if target == "all":
            system.kill_all()
            system.start()
        elif target == "supervisor":
            system.kill_the_supervisor()
            system.start()
        else:
            until(f"{target} runs", partial(system.kill, target))
    for chain in chains:
        chain.stop()
    assert all(chain.acknowledged > len(kills) for chain in chains)

    check_store(system.store_url, chains)
    for chain in chains:
        until(f"the graph has {chain.name}", partial(has_caught_up, system, chain))
    system.stop()
    system.start()
    system.ready()
    assert [shape(system, chain) for chain in chains] == [whole(chain) for chain in chains]
    system.stop()


def has_caught_up(system: System, chain: Chain) -> bool:
    try:
        return shape(system, chain) == whole(chain)
    except httpx.HTTPError:
        return False  # GraphQL was the last one to be killed


def test_a_replay_that_is_killed_again_and_again_ends_in_the_same_story(tmp_path: Path) -> None:
    moments = random.Random(SEED + 1)
    system = System(tmp_path / "data", "--demo")
    for number in range(6):
        until("the replay runs", lambda: "replay" in system.services(), seconds=60)
        time.sleep(moments.uniform(0.1, 0.7))  # its imports take half of this
        if number % 3 == 0:
            system.kill("store")
            time.sleep(moments.uniform(0.0, 0.5))
        system.kill_all()
        # Of a replay that was done by then, so that the next one finds everything there.
        (tmp_path / "data" / MARKER).unlink(missing_ok=True)
        system.start()
    system.ready()
    for question in story.QUESTIONS:
        question(system.ask)
    counted = system.ask("{ executions { totalCount } artifacts { totalCount } runs { totalCount } }")
    system.stop()

    undisturbed = System(tmp_path / "other", "--demo")
    undisturbed.ready()
    assert undisturbed.ask("{ executions { totalCount } artifacts { totalCount } runs { totalCount } }") == counted
    undisturbed.stop()
