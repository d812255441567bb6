"""What holds for the workspace as a whole: members stand alone, pins are current and installable by everybody."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.up.processes import Running

ROOT = Path(__file__).resolve().parent.parent.parent
WALK = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
CLIENT_HALF = (
    "mdstore.client",
    "mdstore.steps",
    "mdstore.wire",
    "mdstore.errors",
    "mdstore.values",
    "mdstore.vocabulary",
)


def uv(*arguments: str, cwd: Path = ROOT) -> str:
    # uv names itself in the processes that `uv run` starts
    command = os.environ.get("UV") or shutil.which("uv") or "uv"
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run([command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.registry
@pytest.mark.parametrize(
    ("member", "packages"),
    [
        pytest.param("./mdstore", CLIENT_HALF, id="client"),
        pytest.param("./mdstore[server]", ("mdstore.cli", "mdstore.server", "mdstore.store.store"), id="server"),
        pytest.param("./mdstore[server,postgresql,mysql,otel]", ("mdstore",), id="extras"),
        pytest.param("./lineage", ("mdstore_lineage",), id="lineage"),
        pytest.param("./writer", ("mdstore_writer",), id="writer"),
        pytest.param("./graphql", ("mdstore_graphql",), id="graphql"),
    ],
)
def test_every_module_of_a_member_imports_with_that_members_dependencies_alone(
    member: str, packages: tuple[str, ...], tmp_path: Path
) -> None:
    uv("venv", "--quiet", str(tmp_path / "venv"), "--python", ">=3.11")
    python = tmp_path / "venv" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", str(python), "--constraint", "requirements.lock", member)

    done = subprocess.run([python, "-c", WALK, *packages], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.registry
def test_the_lock_is_what_script_lock_makes() -> None:
    done = subprocess.run([ROOT / "script" / "lock", "--check"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pins", ["requirements.lock", "tests/judge/requirements.txt"])
def test_pins_name_no_host_and_carry_hashes(pins: str) -> None:
    text = (ROOT / pins).read_text()

    assert "://" not in text
    assert not [line for line in text.splitlines() if "==" in line and not line.endswith("\\")]


@pytest.mark.parametrize("script", ["setup", "run", "up", "test", "lock", "servers"])
def test_scripts_are_posix_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n", ROOT / "script" / script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.registry
def test_wheels_that_are_installed_away_from_here_run_the_demo(tmp_path: Path) -> None:
    for member in ("mdstore", "lineage", "writer", "graphql"):
        uv("build", "--quiet", "--wheel", "--out-dir", str(tmp_path / "dist"), member)
    uv("venv", "--quiet", str(tmp_path / "venv"), "--python", ">=3.11")
    python = tmp_path / "venv" / "bin" / "python"
    wheels = [str(wheel) for wheel in sorted((tmp_path / "dist").glob("*.whl"))]
    uv("pip", "install", "--quiet", "--python", str(python), "--constraint", "requirements.lock", *wheels)

    command = [str(tmp_path / "venv" / "bin" / "mdstore"), "up", "--demo", "--grpc-port", "0", "--http-port", "0"]
    with Running(command, cwd=tmp_path) as process:
        process.wait_for("Ctrl-C stops it", seconds=90)
        process.send(signal.SIGINT)
        process.end()

    assert '"run": {"name": "customers-data-nov18"}' in process.printed
    assert (tmp_path / "mdstore-data" / "metadata.db").exists()
