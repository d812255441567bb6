"""No message shows the password of a database's URL, whatever is wrong with it; and the ways to keep it elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mdstore
from mdstore.errors import InvalidArgument, MetadataError, Unavailable
from mdstore.redaction import shown
from mdstore.store.database import open_database
from mdstore.store.upgrade import plan_upgrade, upgrade
from tests.databases.servers import PostgreSQLServer, Server
from tests.store.writing import put_type

NOWHERE = [
    "postgresql://u:hunter2@127.0.0.1:1/m",
    "mysql://u:hunter2@127.0.0.1:1/m",
    "mysql://u:hunter2@no-such-host.invalid/m",
    "postgresql://u@127.0.0.1:1/m?password=hunter2",
    "postgresql://u@127.0.0.1:1/m?sslpassword=hunter2&connect_timeout=1",
]
WRONG = [
    "oracle://u:hunter2@host/m",
    "mysql://u:hunter2@host:port/m",
    "postgresql://u:pass@hunter2@host/m",
    "postgresql//u:hunter2@host/m",
    "mysql://u:hunter2@127.0.0.1:1/m?no_such_parameter=1",
    "mysql://u:hunter2@127.0.0.1:1/m?ssl_ca=/no/such/file",
]


def open_existing(url: str) -> None:
    open_database(url, must_exist=True)


@pytest.mark.parametrize("open_", [mdstore.connect, upgrade, plan_upgrade, open_existing])
@pytest.mark.parametrize("url", [*NOWHERE, *WRONG])
def test_no_error_about_a_url_shows_its_password(open_: object, url: str) -> None:
    assert callable(open_)
    with pytest.raises(MetadataError) as caught:
        open_(url)
    assert isinstance(caught.value, Unavailable if url in NOWHERE else InvalidArgument), caught.value
    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("mysql://u:hunter2@h/m", "mysql://u:***@h/m"),
        ("mysql://u@h/m", "mysql://u@h/m"),
        ("mysql://u:a@b/c:d@h/m?ssl_ca=x", "mysql://u:***@h/m?ssl_ca=x"),
        ("postgresql://h/m?user=u&password=p&sslmode=x", "postgresql://h/m?user=u&password=***&sslmode=x"),
        ("sqlite:////data/m.db", "sqlite:////data/m.db"),
        ("mysql://u:p\nq@h/m", "mysql://u:***@h/m"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, seen: str) -> None:
    assert shown(url) == seen


COMMANDS = [
    ["serve", "--grpc-port", "0", "--database"],
    ["upgrade", "--database"],
    ["upgrade", "--dry-run", "--database"],
    ["log", "verify", "--database"],
    ["log", "show", "--store"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_server_that_refuses_a_password_is_named_without_it(server: Server, command: list[str]) -> None:
    url = server.url("m").replace(":secret@", ":hunter2@")
    done = subprocess.run(
        [sys.executable, "-m", "mdstore", *command, url],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert done.returncode == 2, printed
    assert "hunter2" not in printed
    assert "mdstore:***@127.0.0.1" in printed
    assert "Traceback" not in printed


def test_a_password_may_stand_in_a_file(server: Server, database: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    if isinstance(server, PostgreSQLServer):
        file.write_text("127.0.0.1:*:*:mdstore:secret\n")
        parameter = "passfile"
    else:
        file.write_text("[client]\npassword = secret\n")
        parameter = "read_default_file"
    os.chmod(file, 0o600)
    url = server.url(database).replace(":secret@", "@") + f"?{parameter}={file}"
    with mdstore.connect(url) as client:
        assert put_type(client, "artifact") == 10
    with pytest.raises(Unavailable):
        mdstore.connect(re.sub(r"\?.*", "", url))


def test_a_database_is_not_made_where_that_is_not_wanted(server: Server, database: str) -> None:
    with pytest.raises(Unavailable, match="cannot open the database"):
        open_database(server.url(database), create=False)
    with pytest.raises(Unavailable, match="cannot open the database"):
        open_database(server.url(database), must_exist=True)
    open_database(server.url(database)).close()
    open_database(server.url(database), create=False).close()
