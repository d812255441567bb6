"""`mdstore up --demo` from an empty folder: a minute later GraphQL answers where a model came from, across runs."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mdstore.cli.demo import MARKER
from tests.system import System, running
from tests.up import story
from tests.up.processes import mdstore

pytestmark = pytest.mark.serial


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "data"


@pytest.fixture(scope="module")
def demo(data: Path) -> Iterator[System]:
    with running(data, "--demo", seconds=90) as system:
        yield system


@pytest.mark.parametrize("question", story.QUESTIONS, ids=lambda question: question.__name__)
def test_an_answer_that_crosses_runs(demo: System, question: Callable[[story.Ask], None]) -> None:
    question(demo.ask)


def test_every_workflow_is_a_run_of_its_pipeline(demo: System) -> None:
    found = demo.ask("{ runs(first: 100) { nodes { name state pipeline { name } } } }")["runs"]["nodes"]
    told = {(run["name"], run["state"], run["pipeline"]["name"]) for run in found if "kfp" not in run["name"]}
    assert told >= {
        ("customers-data-nov18", "SUCCEEDED", "customers-data"),
        ("churn-train-nov18", "SUCCEEDED", "churn-train"),
        ("churn-release-nov18", "SUCCEEDED", "churn-release"),
        ("fraud-train-nov18", "SUCCEEDED", "fraud-train"),
        ("customers-data-nov19", "FAILED", "customers-data"),
        ("customers-data-nov19-again", "SUCCEEDED", "customers-data"),
        ("churn-train-nov18-wide", "SUCCEEDED", "churn-train"),
        ("churn-release-nov19", "SUCCEEDED", "churn-release"),
    }
    assert len(found) == 9  # and the run of Kubeflow Pipelines


def test_it_shows_a_question_and_its_real_answer(demo: System) -> None:
    shown = demo.process.wait_for("Ctrl-C stops it").string
    assert "churn-train-nov18" in shown[shown.index("mdstore is ready") :]
    assert "customers-data-nov18" in shown[shown.index("mdstore is ready") :]
    assert "not answered" not in shown


def test_it_stops_within_three_seconds_and_starts_warm_within_five_with_the_same_answers(
    demo: System, data: Path
) -> None:
    children = demo.process.children()
    assert len(children) == 3
    demo.process.send(signal.SIGINT)
    code, took = demo.process.end()
    assert code == 0
    assert took < 3
    assert not re.search(r"Traceback|was killed by|is killed", demo.process.printed), demo.process.printed
    begun = time.monotonic()
    with running(data, "--demo") as again:
        again.process.wait_for("Ctrl-C stops it")
        took = time.monotonic() - begun
        assert "replay " not in again.process.printed
        for question in story.QUESTIONS:
            question(again.ask)
    assert took < 5


def member(folder: Path, recorded: Path) -> dict[str, str]:
    """The environment in which one more member is installed: it has demo data too."""
    (folder / "more.py").write_text(f"def directories():\n    return [{str(recorded)!r}]\n")
    about = folder / "more-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1.0\nSummary: More demo data\n")
    (about / "entry_points.txt").write_text("[mdstore.demo]\nmore = more:directories\n")
    return {"PYTHONPATH": str(folder)}


def test_a_replay_that_could_not_understand_everything_is_reported(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    (recorded / "workflows.jsonl").write_text('{"type": "ADDED", "object": {"kind": "Work\n')
    environment = member(tmp_path, recorded)
    data = tmp_path / "data"
    options = ["up", "--demo", "--data", str(data), "--grpc-port", "0", "--http-port", "0"]
    with mdstore(*options, environment=environment) as process:
        process.wait_for("Ctrl-C stops it", seconds=60)
        process.send(signal.SIGINT)
        code, _ = process.end()
    assert code == 0
    assert "mdstore: the replay of the demo's events ended with exit code 3" in process.printed
    assert "1 in quarantine" in process.printed
    assert "customers-data-nov18" in process.printed[process.printed.index("mdstore is ready") :]
    assert (data / MARKER).exists()


def test_demo_data_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    environment = member(tmp_path, tmp_path / "nowhere")
    with mdstore("up", "--demo", "--data", str(tmp_path / "data"), environment=environment) as process:
        code, _ = process.end()
    assert code == 2
    assert process.printed == f"mdstore: the demo's recorded events are not there: {tmp_path}/nowhere\n"
