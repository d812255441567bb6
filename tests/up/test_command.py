"""The `mdstore` command itself: help, unknown words, and how it ends when it cannot begin."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mdstore.cli.exits import CannotStart, explain, one_line_exits
from mdstore.cli.logs import LogSettings
from mdstore.errors import STATUS, FailedPrecondition


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "mdstore", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
        check=False,
    )


def test_help_names_every_command_and_imports_none_of_them() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mdstore", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("up", "serve", "version", "graphql", "lineage", "writer"):
        assert f"\n  {name} " in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    slow = {"grpc", "pydantic", "rich", "sqlalchemy", "strawberry", "fastapi", "kubernetes", "structlog", "asyncio"}
    assert not imported & slow
    assert not {name for name in imported if name.startswith("mdstore_")}


@pytest.mark.parametrize(
    "group", [(), ("hold",), ("log",), ("spool",), ("graphql",), ("lineage",), ("writer",)], ids=" ".join
)
def test_a_line_of_help_for_each_command_fits_on_80_columns(group: tuple[str, ...]) -> None:
    done = run(*group, "--help", COLUMNS="80", TERMINAL_WIDTH="80")
    assert done.returncode == 0
    _, commands = done.stdout.split("Commands:\n")
    assert [line for line in commands.splitlines() if line.endswith("...")] == []


@pytest.mark.parametrize("seen", ["typer.main", "mdstore.cli.app", "structlog", "grpc", "sqlalchemy.sql"])
def test_ctrl_c_while_the_command_starts_ends_it_with_130_and_without_a_word(seen: str, tmp_path: Path) -> None:
    command = ["-m", "mdstore", "serve", "--database", f"sqlite:///{tmp_path}/db", "--grpc-port", "0"]
    with subprocess.Popen(
        [sys.executable, "-P", "-X", "importtime", *command], stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stderr is not None
        # Python names each module once it is imported, so that this is no matter of how fast the machine is.
        for line in started.stderr:
            if line.rsplit("|", 1)[-1].strip() == seen:
                break
        else:
            pytest.fail(f"{seen} was not imported")
        started.send_signal(signal.SIGINT)
        words = [line for line in started.stderr if not line.startswith("import time:")]
    assert (started.returncode, words) == (130, [])


def test_ctrl_c_in_a_block_that_must_be_left_in_order_is_not_seen_either() -> None:
    with pytest.raises(SystemExit) as ended, one_line_exits():
        raise KeyboardInterrupt
    assert ended.value.code == 130


def test_an_unknown_command_is_refused_with_exit_code_2() -> None:
    done = run("sevre")
    assert done.returncode == 2
    assert "Did you mean 'serve'" in done.stderr


def test_version_names_every_member() -> None:
    done = run("version")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names[:4] == ["mdstore", "mdstore-graphql", "mdstore-lineage", "mdstore-writer"]


def test_a_setting_that_is_none_is_named_in_one_line() -> None:
    done = run("writer", "replay", MDSTORE_LOG_LEVEL="loud")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("mdstore: --log-level or MDSTORE_LOG_LEVEL: ")
    assert "'loud'" in line


@pytest.mark.parametrize("error", [*(error("no\nway") for error in STATUS), CannotStart("no\nway")], ids=repr)
def test_every_error_of_a_store_is_one_line_and_exit_code_2(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, one_line_exits():
        raise error
    assert ended.value.code == 2
    assert capsys.readouterr().err == "mdstore: no way\n"


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open("/nowhere/at/all")  # noqa: SIM115 - it never opens
    assert explain(caught.value) == "/nowhere/at/all: No such file or directory"


@pytest.mark.parametrize("error", [KeyError("a fault"), ValueError("a fault"), OSError("a fault")])
def test_a_fault_of_ours_keeps_its_traceback(error: Exception) -> None:
    assert explain(error) is None
    with pytest.raises(type(error)), one_line_exits():
        raise error


def test_only_settings_are_explained_as_settings() -> None:
    from pydantic import BaseModel, ValidationError

    class Data(BaseModel):
        log_level: int

    with pytest.raises(ValidationError) as caught:
        Data.model_validate({"log_level": "loud"})
    assert explain(caught.value) is None
    with pytest.raises(ValidationError) as caught:
        LogSettings.model_validate({"log_level": "loud"})
    assert explain(caught.value) is not None
    assert explain(FailedPrecondition("")) == "FailedPrecondition"
