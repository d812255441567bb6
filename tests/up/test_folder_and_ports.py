"""What `mdstore up` refuses before it starts anything: folders and ports that it cannot have."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mdstore.cli import ports
from mdstore.cli.exits import CannotStart
from mdstore.cli.folder import LOCK, DataFolder
from tests.up.processes import mdstore


def refusal(*arguments: str) -> str:
    """The one line that `mdstore up` refuses with."""
    with mdstore("up", *arguments) as running:
        code, _ = running.end()
    assert code == 2, running.printed
    [line] = running.printed.splitlines()
    return line


@pytest.mark.parametrize("flag", ["--grpc-port", "--http-port"])
def test_a_busy_port_is_refused_in_one_line(flag: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal("--data", str(tmp_path / "data"), flag, str(port))
    assert line == f"mdstore: port {port} is taken; name another one with {flag}, or none to get a free one"


def test_one_port_for_both_is_refused(tmp_path: Path) -> None:
    port = str(ports.any_free())
    line = refusal("--data", str(tmp_path), "--grpc-port", port, "--http-port", port)
    assert f"port {port} is taken" in line


def test_the_usual_port_gives_way_to_one_near_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = taken.getsockname()[1]
        if usual + 50 > 65535:
            pytest.fail("the kernel has no ports below 65485")
        found = ports.choose(None, usual, flag="--grpc-port")
    assert usual < found
    assert ports.is_free(found)
    assert ports.choose(None, found, flag="--http-port", taken=(found,)) != found
    assert ports.choose(0, usual, flag="--grpc-port")


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    line = refusal("--data", str(tmp_path / "file" / "data"))
    assert line.startswith(f"mdstore: the data folder {tmp_path}/file/data cannot be written: Not a directory")
    if os.geteuid() != 0:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        line = refusal("--data", str(locked))
        assert line.startswith(f"mdstore: the data folder {locked} cannot be written: Permission denied")
    else:  # nothing stops root but a file system
        line = refusal("--data", "/proc/mdstore")
        assert line.startswith("mdstore: the data folder /proc/mdstore cannot be written: No such file or directory")


def test_a_folder_in_use_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    with DataFolder.claim(tmp_path / "data") as folder:
        folder.note({"GraphQL": "http://127.0.0.1:8000/graphql"})
        line = refusal("--data", str(tmp_path / "data"))
        assert f"(process {os.getpid()}, GraphQL at http://127.0.0.1:8000/graphql)" in line
    DataFolder.claim(tmp_path / "data").close()


def test_a_folder_is_free_when_the_last_child_of_its_dead_owner_has_ended(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from mdstore.cli.folder import DataFolder\n"
        "folder = DataFolder.claim(Path(sys.argv[1]))\n"
        "subprocess.Popen(['sleep', '1.5'], pass_fds=[folder.lock_fd])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    assert owner.wait() == -9
    fd = os.open(tmp_path / LOCK, os.O_RDWR)
    import fcntl

    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    DataFolder.claim(tmp_path).close()  # waits for it


def test_a_name_that_no_database_url_can_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="has a '\\?' in its name"):
        DataFolder.claim(tmp_path / "what?")
    with DataFolder.claim(tmp_path / "mein Ördner") as folder:
        assert folder.path.is_dir()
