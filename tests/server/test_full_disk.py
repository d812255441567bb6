"""A disk without room: writes are refused and say why, reads go on, and with room again all goes on by itself."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from mdstore.wire import changes, mlmd, service
from tests.server.process import Process, started
from tests.server.room import SmallDisk, small_disk
from tests.server.test_limits import FOLLOW, code_of
from tests.server.web import SERVICE
from tests.store.log import verified

pytestmark = pytest.mark.namespaces

OK, FULL = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, size_kb=16 * 1024) as found:
        yield found


def serve_command(disk: SmallDisk) -> list[str]:
    database = f"sqlite:///{disk.folder}/metadata.db"
    return disk.python("-m", "mdstore", "serve", "--database", database, "--grpc-port", "0", "--http-port", "0")


class Writer:
    """Writes types of a few KB, and knows which are there and which are not."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._put = channel.unary_unary(f"{SERVICE}PutContextType")
        self._channel = channel
        self._number = 0
        self.there: set[str] = set()
        self.refused: set[str] = set()

    def write(self, count: int, *, kb: int = 8) -> set[grpc.StatusCode]:
        """The codes of so many writes at once."""
        self._number += count
        futures = {}
        for number in range(self._number - count, self._number):
            name = f"t{number} {'x' * kb * 1024}"
            request = service.PutContextTypeRequest(context_type=mlmd.ContextType(name=name))
            futures[name] = self._put.future(request.SerializeToString(), timeout=20)
        codes = set()
        for name, future in futures.items():
            codes.add(code_of(future))
            if code_of(future) is OK:
                self.there.add(name)
            else:
                self.refused.add(name)
                assert "disk is full" in future.details()
        return codes

    def write_until_full(self) -> None:
        for _ in range(300):
            if (codes := self.write(8)) != {OK}:
                assert codes <= {OK, FULL}, codes
                return
        raise AssertionError("the disk never was full")

    def read(self) -> set[str]:
        answer = self._channel.unary_unary(f"{SERVICE}GetContextTypes")(b"", timeout=20)
        return {found.name for found in service.GetContextTypesResponse.FromString(answer).context_types}

    def check(self) -> None:
        """What was acknowledged is there, and what was refused is not."""
        there = self.read()
        assert self.there <= there
        assert not self.refused & there


@pytest.fixture
def server(disk: SmallDisk, tmp_path: Path) -> Iterator[Process]:
    with started(serve_command(disk), tmp_path, os.environ) as found:
        yield found


@pytest.fixture
def writer(server: Process) -> Iterator[Writer]:
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield Writer(channel)


def log_is_whole(disk: SmallDisk) -> dict[str, Any]:
    return verified(f"sqlite:///{disk.outside}/metadata.db")


def test_without_room_reads_go_on_and_with_room_writes_too(disk: SmallDisk, server: Process, writer: Writer) -> None:
    assert writer.write(20) == {OK}
    # Whatever is met first: the write-ahead log within a commit or between two, or the database at a checkpoint.
    for left_kb in (0, 4, 12, 60, 200, 1500):
        disk.fill(leave_kb=left_kb)
        writer.write_until_full()
        for _ in range(3):
            assert writer.write(4) <= {OK, FULL}
            writer.check()
        assert httpx.get(f"{server.http}/healthz").json()["status"] == "ok"
        disk.free()
        assert writer.write(8) == {OK}
        writer.check()
    assert "Traceback" not in server.said()
    server.process.terminate()
    assert server.process.wait(15) == 0
    log_is_whole(disk)


def test_a_long_read_that_keeps_the_log_from_shrinking_fills_the_disk(
    disk: SmallDisk, server: Process, writer: Writer
) -> None:
    # Its first page is one moment, which must stay readable until the last: nothing behind it can be checkpointed.
    assert writer.write(400, kb=4) == {OK}
    disk.fill(leave_kb=3000)
    with grpc.insecure_channel(server.address) as channel:
        pages = channel.unary_stream("/mdstore.v1.ChangeFeed/Snapshot")(changes.SnapshotRequest().SerializeToString())
        next(pages)
        writer.write_until_full()
        writer.check()
        follow = channel.unary_stream(FOLLOW)(changes.FollowRequest(once=True).SerializeToString(), timeout=20)
        assert any(changes.FollowResponse.FromString(page).commits for page in follow)
        pages.cancel()
    disk.free()
    assert writer.write(200, kb=4) == {OK}
    writer.check()


def test_a_kill_on_a_full_disk_loses_nothing_and_the_next_start_reads(
    disk: SmallDisk, server: Process, writer: Writer, tmp_path: Path
) -> None:
    writer.write(20)
    disk.fill(leave_kb=60)
    writer.write_until_full()
    disk.fill()
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(10)
    again = tmp_path / "again"
    again.mkdir()
    with started(serve_command(disk), again, os.environ) as second, grpc.insecure_channel(second.address) as channel:
        late = Writer(channel)
        late.there, late.refused, late._number = writer.there, writer.refused, 10_000
        late.check()
        late.write_until_full()
        late.check()
        disk.free()
        assert late.write(4) == {OK}
        late.check()
    log_is_whole(disk)


@pytest.mark.parametrize("is_new", [True, False], ids=["no database", "a database"])
def test_a_start_without_any_room_says_so_in_a_line(disk: SmallDisk, tmp_path: Path, is_new: bool) -> None:
    if not is_new:
        with started(serve_command(disk), tmp_path, os.environ):
            pass
    disk.fill()
    ended = subprocess.run(serve_command(disk), capture_output=True, text=True, timeout=60, check=False)
    said = ended.stderr + ended.stdout
    assert ended.returncode not in (0, 1)
    assert "disk is full" in said
    assert len(said.strip().splitlines()) == 1
    disk.free()
    with started(serve_command(disk), tmp_path, os.environ) as server, grpc.insecure_channel(server.address) as channel:
        assert Writer(channel).write(4) == {OK}


SPOOLING = """
import logging, mdstore, mdstore.steps.step
logging.basicConfig(format="%(message)s")
mdstore.steps.step.FLUSH_AFTER_S = 0.0  # each line is sent, as in a step that takes its time
with mdstore.run("step", pipeline="p", store="grpc://127.0.0.1:9") as step:
    for n in range(200):
        step.log_metric(f"m{n}", n + 0.5)
        step.output(f"o{n}", "s3://bucket/" + "x" * 4000 + str(n))
print("done")
"""


def test_a_step_whose_spool_has_no_room_says_so_goes_on_and_keeps_what_was_written(
    disk: SmallDisk, tmp_path: Path
) -> None:
    disk.fill(leave_kb=300)
    environment = os.environ | {"MDSTORE_SPOOL": str(disk.folder)}
    step = subprocess.run(
        disk.python("-c", SPOOLING), env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert (step.returncode, step.stdout) == (0, "done\n"), step.stderr
    assert "No space left on device" in step.stderr
    assert len(step.stderr.splitlines()) < 10, "a step says it once, and not at every line"

    # What is sent makes room, so it does not need any.
    disk.fill()
    spool = disk.python("-m", "mdstore", "spool")
    listed = subprocess.run([*spool, "list", str(disk.folder)], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"(\d+) of (\d+) to send", listed.stdout)
    assert found is not None
    assert found[1] == found[2]
    assert int(found[1]) > 1, "what was written before the disk was full is there"
    assert "torn" not in listed.stdout
    elsewhere = [
        sys.executable,
        "-m",
        "mdstore",
        "serve",
        "--database",
        f"sqlite:///{tmp_path}/a.db",
        "--grpc-port",
        "0",
    ]
    with started(elsewhere, tmp_path, os.environ) as server, grpc.insecure_channel(server.address) as channel:
        replay = [*spool, "replay", str(disk.folder), "--store", f"grpc://{server.address}"]
        replayed = subprocess.run(replay, capture_output=True, text=True, timeout=100, check=False)
        assert replayed.returncode == 0, replayed
        answer = channel.unary_unary(f"{SERVICE}GetArtifacts")(b"", timeout=20)
    assert not list(disk.outside.glob("*.spool*"))
    uris = [found.uri for found in service.GetArtifactsResponse.FromString(answer).artifacts]
    numbers = sorted(int(uri.rpartition("x")[2]) for uri in uris if uri.startswith("s3://bucket/"))
    # All from the first on, until there was no room.
    assert numbers == list(range(len(numbers)))
    assert 10 < len(numbers) < 200
