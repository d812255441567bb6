"""`mdstore up` with the real services, as a process."""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import Unavailable
from mdstore.wire import mlmd, service
from tests.system import System, running
from tests.up.processes import Running, is_alive, until
from tests.up.processes import mdstore as command

pytestmark = pytest.mark.serial


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with running(tmp_path / "data") as started:
        yield started


def child(process: Running, word: str) -> int | None:
    """The process id of the child that runs `mdstore WORD ...`."""
    listed = os.popen(f"ps -A -o pid=,ppid=,args= | grep -- '-m mdstore {word}'").read()
    rows = (line.split(None, 2) for line in listed.splitlines())
    return next((int(pid) for pid, parent, _ in rows if int(parent) == process.process.pid), None)


def test_it_answers_on_both_addresses_and_shows_a_real_answer(system: System) -> None:
    with mdstore.connect(f"grpc://127.0.0.1:{system.grpc_port}") as client:
        types = client.put_types(service.PutTypesRequest(artifact_types=[mlmd.ArtifactType(name="test.Thing")]))
        made = mlmd.Artifact(type_id=types.artifact_type_ids[0], name="written by gRPC", uri="mem://1")
        client.put_artifacts(service.PutArtifactsRequest(artifacts=[made]))
    found = system.ask('{ artifact(uri: "mem://1") { name type } }')["artifact"]
    assert found == {"name": "written by gRPC", "type": "test.Thing"}
    system.process.wait_for(r'\{"runs": \{"totalCount": 0\}, "executions": \{"totalCount": 0\}')


def test_everything_listens_on_loopback_only(system: System) -> None:
    for pid in system.process.children():
        for line in os.popen(f"ss -H -tlnp 2>/dev/null | grep 'pid={pid},'").read().splitlines():
            assert re.match(r"127\.0\.0\.1:|\[::ffff:127\.0\.0\.1\]:", line.split()[3]), line


def test_ctrl_c_stops_all_within_three_seconds(system: System) -> None:
    children = system.process.children()
    assert len(children) == 3
    system.process.send(signal.SIGINT)
    code, took = system.process.end()
    assert code == 0
    assert took < 3
    assert not any(map(is_alive, children))
    assert "Traceback" not in system.process.printed
    assert "is killed" not in system.process.printed, system.process.printed


@pytest.mark.parametrize(("word", "name"), [("serve", "store"), ("lineage", "lineage"), ("graphql", "graphql")])
def test_a_child_that_is_killed_is_started_again(system: System, word: str, name: str) -> None:
    before = child(system.process, word)
    others = set(system.process.children()) - {before}
    assert before
    os.kill(before, signal.SIGKILL)
    system.process.wait_for(f"mdstore: {name} was killed by SIGKILL; it is started again in 0\\.\\d s")
    after = until(f"a new {name}", lambda: child(system.process, word))
    assert after != before
    assert others < set(system.process.children())
    with mdstore.connect(f"grpc://127.0.0.1:{system.grpc_port}") as client:
        until("the store answers", lambda: _answers(client))
    until("GraphQL answers", lambda: _asks(system))


def _answers(client: Client) -> bool:
    try:
        client.get_artifact_types(service.GetArtifactTypesRequest(), timeout=2)
    except Unavailable:
        return False
    return True


def _asks(system: System) -> bool:
    try:
        return bool(system.ask("{ runs { totalCount } }"))
    except httpx.HTTPError:
        return False


def test_children_end_with_a_supervisor_that_is_killed(system: System) -> None:
    children = system.process.children()
    system.process.send(signal.SIGKILL)
    system.process.end()
    until("the children's end", lambda: not any(map(is_alive, children)), seconds=3)


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 0.6, 1.0, 1.5, 2.0])
def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path, delay_s: float) -> None:
    with command("up", "--data", str(tmp_path / "data"), "--grpc-port", "0", "--http-port", "0") as process:
        time.sleep(delay_s)
        children = process.children()
        process.send(signal.SIGINT)
        code, took = process.end()
        assert took < 3
        assert code in (0, 128 + signal.SIGINT, -signal.SIGINT), process.printed
        assert not any(map(is_alive, children))
        # Before it has started anything, it may still be in Python's own imports.
        assert "Traceback" not in process.printed or not children, process.printed


def test_a_second_one_on_the_same_folder_is_refused(system: System, tmp_path: Path) -> None:
    with command("up", "--data", str(tmp_path / "data")) as second:
        code, _ = second.end()
    assert code == 2
    [line] = second.printed.splitlines()
    assert re.search(rf"is in use by another mdstore up \(process \d+.*{system.url}\)", line)
    assert system.ask("{ __typename }")


def test_the_usual_ports_give_way(tmp_path: Path) -> None:
    with contextlib.ExitStack() as taken:
        for port in (8080, 8000):
            with contextlib.suppress(OSError):  # somebody has it already, which will do
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        process = taken.enter_context(command("up", "--data", str(tmp_path / "data")))
        process.wait_for("mdstore is ready after", seconds=60)
        assert int(process.wait_for(r"gRPC \(MLMD clients\)\s+127\.0\.0\.1:(\d+)")[1]) > 8080
        assert int(process.wait_for(r"GraphQL\s+http://127\.0\.0\.1:(\d+)")[1]) > 8000


def test_a_database_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "metadata.db").write_bytes(b"this is no database, whatever its name says" * 100)
    with command("up", "--data", str(tmp_path), "--grpc-port", "0", "--http-port", "0") as process:
        code, _ = process.end(seconds=20)
    assert code == 2
    assert "Traceback" not in process.printed
    assert "store cannot start: it ended with exit code 2" in process.printed
