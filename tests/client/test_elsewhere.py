"""The client half where it is meant to live: in other people's processes, with few and old libraries."""

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import needs

ROOT = Path(__file__).parents[2]
STEP = """
import sys, mdstore
from mdstore.values import JSON
with mdstore.run("train", store=sys.argv[1], run_id="r", strict=True) as step:
    step.output("model", sys.argv[0], type="system.Model")
    step.log_metric("accuracy", 0.9)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"sqlalchemy", "typer", "structlog", "pydantic"}))
"""


def both(port: int, first: str) -> dict[str, Any]:
    done = subprocess.run(
        [needs.judge_python(), "-I", Path(__file__).with_name("both.py")],
        input=json.dumps({"port": port, "path": str(ROOT / "mdstore"), "first": first}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.judge
@pytest.mark.parametrize("first", ["mdstore", "ml_metadata"])
def test_both_clients_live_in_one_process_on_one_store_with_the_oldest_protobuf(first: str, port: int) -> None:
    found = both(port, first)

    assert found["protobuf"].startswith("4.25.")
    assert found["python"] == [3, 11]
    assert found["modules"] == []
    assert (found["name"], found["refused"], found["state"]) == ("theirs", True, 3)
    assert (found["rate"], found["events"]) == (0.1, 3)
    assert found["types"] == ["Theirs", "system.Metrics", "system.Model"]


def files_of(*distributions: str) -> Iterable[Path]:
    """The top-level folders and modules that these distributions installed, with what they require."""
    for name in distributions:
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or () if not file.parts[0].startswith("..")}
        yield from (Path(str(distribution.locate_file(top))) for top in tops)


def test_a_step_runs_where_only_grpcio_and_protobuf_are_installed(tmp_path: Path, port: int) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for path in files_of("grpcio", "protobuf", "typing_extensions"):
        if not (site / path.name).exists() and path.exists() and path.name != "__pycache__":
            if path.name == "google":
                # A namespace that other distributions share: protobuf's part alone.
                (site / "google").mkdir()
                (site / "google" / "protobuf").symlink_to(path / "protobuf")
                (site / "google" / "_upb").symlink_to(path / "_upb")
                continue
            (site / path.name).symlink_to(path)
    script = tmp_path / "step.py"
    script.write_text(STEP)

    done = subprocess.run(
        # -S: nothing of this environment but what is named here
        [sys.executable, "-S", "-P", script, f"grpc://127.0.0.1:{port}"],
        env={"PYTHONPATH": f"{site}:{ROOT / 'mdstore'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
