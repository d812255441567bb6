"""What cannot be sent is on disk, in order, whole or left out, and reaches the store once."""

import fcntl
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import mdstore
from mdstore.errors import Unavailable
from mdstore.steps import deliver, spool
from mdstore.steps.spool import InUse, Reader, SpoolFull, Writer
from mdstore.values import ExecutionState
from mdstore.wire import ingestion
from tests.client.reading import Stored, stored
from tests.client.servers import Server
from tests.client.test_steps import NOWHERE
from tests.up.processes import until


def read(url: str) -> Stored:
    with mdstore.connect(url) as client:
        return stored(client)


def number(at: int) -> ingestion.IngestRequest:
    return ingestion.IngestRequest(origin=f"n{at}")


def written(folder: Path, count: int, store: str | None = None) -> Path:
    """A file of so many records, whose writer is gone."""
    folder.mkdir(exist_ok=True)
    writer = Writer(folder, store)
    for at in range(count):
        writer.append(number(at).SerializeToString(), is_important=True)
    path = writer.path
    writer.close()
    assert path is not None
    return path


def origins(path: Path) -> tuple[list[str], int]:
    with Reader.holding(path) as reader:
        return [request.origin for request in reader.records()], reader.torn_bytes


def test_records_come_back_in_order(tmp_path: Path) -> None:
    assert origins(written(tmp_path, 5)) == ([f"n{at}" for at in range(5)], 0)


def test_wherever_a_file_is_cut_off_its_whole_records_are_read_and_the_rest_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    content = path.read_bytes()
    first_line = content.index(b"\n") + 1
    record = (len(content) - first_line) // 3
    for length in range(first_line, len(content)):
        path.write_bytes(content[:length])
        whole, torn = divmod(length - first_line, record)
        assert origins(path) == ([f"n{at}" for at in range(whole)], torn)
    for length in range(first_line):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="no file of mdstore's spool"):
            origins(path)


def test_garbage_at_the_end_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, 2)
    with path.open("ab") as file:
        file.write(random.Random(7).randbytes(1000))

    assert origins(path) == (["n0", "n1"], 1000)


def test_what_was_sent_is_not_sent_again_and_a_broken_mark_means_all(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    with Reader.holding(path) as reader:
        next(reader.records())
        reader.done()
    assert origins(path)[0] == ["n1", "n2"]
    assert (spool.contents(path).records, spool.contents(path).unsent) == (3, 2)

    path.with_name(f"{path.name}.sent").write_text("12")
    assert origins(path)[0] == ["n0", "n1", "n2"]


def test_a_file_belongs_to_one_process(tmp_path: Path) -> None:
    writer = Writer(tmp_path, None)
    writer.append(b"", is_important=True)
    assert writer.path is not None
    with pytest.raises(InUse), Reader.holding(writer.path):
        pass

    assert spool.contents(writer.path).records == 1  # looking at it is always possible


def test_the_folder_is_bounded_and_keeps_room_for_what_matters(tmp_path: Path) -> None:
    writer = Writer(tmp_path, None, most_bytes=2000)

    def fill(*, is_important: bool) -> int:
        for count in range(1000):
            try:
                writer.append(b"x" * 50, is_important=is_important)
            except SpoolFull:
                return count
        raise AssertionError("never full")

    assert fill(is_important=False) > 20
    assert fill(is_important=False) == 0
    assert fill(is_important=True) >= 2
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2000


def test_a_step_whose_spool_is_full_runs_all_the_same_and_says_so(
    spool_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MDSTORE_SPOOL_MAX_BYTES", "3000")
    with mdstore.run("s", store=NOWHERE) as step:
        for at in range(50):
            step.log_metric(f"m{at}", at)
            step.flush()

    assert sum(file.stat().st_size for file in spool_folder.glob("*.spool")) <= 3000
    assert "dropped, because the spool took no more" in caplog.text


@pytest.mark.parametrize("folder", ["/proc/none", "/dev/null/x"])
def test_a_step_that_can_neither_send_nor_keep_runs_all_the_same(
    folder: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MDSTORE_SPOOL", folder)
    with mdstore.run("s", store=NOWHERE) as step:
        step.log_metric("m", 1)

    assert "could not be logged" in caplog.text


def test_the_folder_without_a_setting_is_the_users_or_a_temporary_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert spool.folder(None) == tmp_path / "mdstore" / "spool"
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert spool.folder(None) == tmp_path / f"mdstore-{os.getuid()}" / "mdstore" / "spool"


def offline(spool_folder: Path, store: str | None = None, run_id: str = "r") -> Path:
    """What a step leaves that never reached its store."""
    with mdstore.run("train", store=store or NOWHERE, run_id=run_id, pipeline="churn") as step:
        step.input("table", "s3://b/t")
        step.flush()
        step.output("model", "s3://b/m", type="system.Model")
        step.log_metric("accuracy", 0.9)
    (path,) = [path for path in spool_folder.glob("*.spool") if b"train" in path.read_bytes()]
    return path


def test_what_was_kept_gives_what_sending_at_once_gives(database: str, spool_folder: Path) -> None:
    path = offline(spool_folder)
    assert spool.contents(path).unsent == 3
    with mdstore.connect(database) as client:
        result = deliver.replay(path, client)

    assert (result.sent, result.is_complete) == (3, True)
    assert list(spool_folder.iterdir()) == []
    found = read(database)
    assert found.execution.state is ExecutionState.COMPLETE
    assert found.inputs["step:r/train/0"] == {"table": "uri:s3://b/t"}
    assert found.outputs["step:r/train/0"].keys() == {"model", "metrics"}


def test_sending_twice_changes_nothing(database: str, spool_folder: Path, tmp_path: Path) -> None:
    path = offline(spool_folder)
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with mdstore.connect(database) as client:
        deliver.replay(path, client)
        before = stored(client)
        deliver.replay(copy, client)
        after = stored(client)

    assert (after.executions, after.artifacts, after.events) == (before.executions, before.artifacts, before.events)


def test_the_next_step_sends_what_an_earlier_process_left(database: str, spool_folder: Path) -> None:
    with Server(database) as server:
        offline(spool_folder, server.url)
        assert len(list(spool_folder.glob("*.spool"))) == 1
        server.start()
        with mdstore.run("next", store=server.url):
            pass

    assert list(spool_folder.iterdir()) == []
    assert {e.custom_properties["display_name"] for e in read(database).executions.values()} == {"train", "next"}


def test_only_what_was_meant_for_a_store_is_sent_to_it_unasked(database: str, spool_folder: Path) -> None:
    offline(spool_folder)
    with mdstore.run("next", store=database):
        pass

    assert len(list(spool_folder.glob("*.spool"))) == 1
    assert [e.custom_properties["display_name"] for e in read(database).executions.values()] == ["next"]


def test_an_away_store_leaves_a_file_as_it_was(spool_folder: Path) -> None:
    path = offline(spool_folder)
    with mdstore.connect(NOWHERE) as client, pytest.raises(Unavailable):
        deliver.replay(path, client)

    assert spool.contents(path).unsent == 3


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "mdstore", "spool", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_lists_and_replays(database: str, spool_folder: Path) -> None:
    assert command("list").stdout == "nothing waits\n"
    path = offline(spool_folder)
    with path.open("ab") as file:
        file.write(b"torn")

    listed = command("list").stdout
    assert f"{path}  " in listed
    assert f"{NOWHERE}  3 of 3 to send, 4 bytes cut off at the end" in listed

    away = command("replay", str(path))
    assert (away.returncode, away.stdout) == (3, "")
    assert away.stderr.startswith(f"{path} and what else is for {NOWHERE}: left as it is: ")
    done = command("replay", str(spool_folder), "--store", database)
    assert (done.returncode, done.stdout) == (0, f"{path}: 3 sent, 4 bytes cut off at the end left out\n")
    assert command("list").stdout == "nothing waits\n"
    assert read(database).execution.state is ExecutionState.COMPLETE


def test_a_store_that_is_away_keeps_nothing_from_another(database: str, spool_folder: Path) -> None:
    for_nobody = [written(spool_folder, 1, NOWHERE) for _ in range(2)]
    path = written(spool_folder, 2, database)

    done = command("replay")

    assert (done.returncode, done.stdout) == (3, f"{path}: 2 sent\n")
    assert len(done.stderr.splitlines()) == 1
    assert spool.files(spool_folder) == for_nobody


def test_what_killed_processes_leave_beside_their_files_is_said_and_taken_away(spool_folder: Path) -> None:
    spool_folder.mkdir(exist_ok=True)
    unnamed, young, mark = (spool_folder / name for name in ("1-1-a.new", "2-2-b.new", "3-3-c.spool.sent"))
    for path in (unnamed, young, mark):
        path.write_text("{")
    os.utime(unnamed, (0, 0))
    held = spool_folder / "4-4-d.new"
    descriptor = os.open(held, os.O_RDWR | os.O_CREAT)
    os.utime(held, (0, 0))
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    listed = command("list").stdout.splitlines()
    assert [line.partition("  ")[0] for line in listed] == [str(unnamed), str(mark)]
    done = command("replay")
    assert (done.returncode, done.stdout.count("taken away")) == (0, 2)
    assert sorted(spool_folder.iterdir()) == [young, held]
    assert command("replay").stdout == command("list").stdout == "nothing waits\n"
    os.close(descriptor)


def test_what_was_refused_stays_until_it_is_taken(database: str, spool_folder: Path) -> None:
    with mdstore.run("s", store=database, type="\0"):
        pass
    refused = {path: path.read_bytes() for path in spool_folder.glob("*.refused")}
    assert refused

    assert "refused by the store" in command("list").stdout
    assert command("replay", "--store", database).returncode == 0
    again = command("replay", "--store", database, "--refused")
    assert (again.returncode, "1 refused" in again.stdout) == (3, True)
    assert {path: path.read_bytes() for path in spool_folder.glob("*.refused")} == refused


def test_a_file_that_is_none_is_left_alone(spool_folder: Path, database: str) -> None:
    spool_folder.mkdir(exist_ok=True)
    (spool_folder / "x.spool").write_text("hello\n")

    assert "unreadable" in command("list").stdout
    done = command("replay", "--store", database)
    assert (done.returncode, "left as it is" in done.stderr) == (3, True)
    with mdstore.run("s", store=database):
        pass
    assert (spool_folder / "x.spool").read_text() == "hello\n"


def test_a_full_spool_is_sent_as_soon_as_the_store_answers(
    database: str, spool_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDSTORE_SPOOL_MAX_BYTES", "3000")
    with Server(database) as server, mdstore.run("s", store=server.url, run_id="r") as step:
        for at in range(50):
            step.log_metric(f"m{at}", at)
            step.flush()
        assert spool.files(spool_folder)
        server.start()

        logged: list[str] = []

        def is_sent() -> bool:
            logged.append(f"after{len(logged)}")
            step.log_metric(logged[-1], 1)
            step.flush()
            return not spool.files(spool_folder)

        until("what was kept is sent", is_sent, seconds=30)
        # What was logged then had room again.
        assert logged[-1] in read(server.url).artifacts["step:r/s/0/metrics"].custom_properties


def test_a_file_that_is_gone_or_forbidden_keeps_nothing_from_being_sent(database: str, spool_folder: Path) -> None:
    path = written(spool_folder, 2, database)
    # As a file that a step has sent between the look into the folder and the look into the file.
    gone = spool_folder / "0-0-a.spool"
    gone.symlink_to("nowhere")

    listed = command("list")
    assert (listed.returncode, f"{path}  " in listed.stdout) == (0, True)
    done = command("replay")
    assert f"{path}: 2 sent\n" in done.stdout, done.stderr
    assert done.returncode == 0


def test_what_is_said_of_a_file_names_no_password(spool_folder: Path) -> None:
    written(spool_folder, 1, "postgresql://me:topsecret@127.0.0.1:9/none")
    for said in (command("list"), command("replay")):
        assert "postgresql://me:***@127.0.0.1:9/none" in said.stdout + said.stderr
        assert "topsecret" not in said.stdout + said.stderr
