"""`mdstore writer replay` and `quarantine` as a person runs them: files, exit codes, lines on the terminal, kills."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson
import pytest

from mdstore.client.connect import connect
from tests.contents import contents
from tests.writer.recordings import EXAMPLES, KINDS

MDSTORE: Final = [sys.executable, "-m", "mdstore"]


def mdstore(*arguments: object, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MDSTORE, *map(str, arguments)], capture_output=True, text=True, timeout=seconds, check=False
    )


def replayed(store: str, *folders: Path) -> dict[str, object]:
    done = mdstore("writer", "replay", *folders, "--store", store)
    assert done.returncode == 0, done.stderr
    with connect(store) as client:
        return contents(client)


def copied(name: str, to: Path, change: Callable[[list[bytes]], list[bytes]]) -> Path:
    """A recording with the lines of each file changed."""
    folder = to / name
    folder.mkdir()
    for kind in KINDS:
        lines = (EXAMPLES / name / f"{kind}.jsonl").read_bytes().splitlines(keepends=True)
        (folder / f"{kind}.jsonl").write_bytes(b"".join(change(lines)))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


def test_replay_says_what_it_did_and_again_changes_nothing(store: str) -> None:
    first = mdstore("writer", "replay", EXAMPLES / "story", "--store", store)

    assert (first.returncode, first.stdout) == (0, "")
    assert first.stderr == "recorded 8 runs from 528 events\n"
    with connect(store) as client:
        once = contents(client)
    assert replayed(store, EXAMPLES / "story") == once
    assert len(once["contexts"]) == 12


def test_lines_in_any_order_and_twice_give_the_same_store(tmp_path: Path, store: str) -> None:
    def shuffle(lines: list[bytes]) -> list[bytes]:
        lines = lines + random.choices(lines, k=20)
        random.shuffle(lines)
        return lines

    shuffled = copied("story", tmp_path, shuffle)

    assert replayed(store, shuffled) == replayed(f"{store}.other", EXAMPLES / "story")


def test_a_consumer_in_the_first_folder_and_its_producer_in_the_second(tmp_path: Path, store: str) -> None:
    memo = EXAMPLES / "memo-1-first", EXAMPLES / "memo-2-second"

    assert replayed(store, *reversed(memo)) == replayed(f"{store}.other", *memo)


def test_a_folder_of_recordings_stands_for_all_in_it(tmp_path: Path, store: str) -> None:
    for name in ("retry", "fail"):
        copied(name, tmp_path, lambda lines: lines)

    assert replayed(store, tmp_path) == replayed(f"{store}.other", EXAMPLES / "retry", EXAMPLES / "fail")


def test_an_error_of_the_recorded_watch_is_passed_over(store: str) -> None:
    done = mdstore("writer", "replay", EXAMPLES / "gone-410", "--store", store)

    assert done.returncode == 0
    assert "passed over an error of the watch" in done.stderr


def test_lines_that_mean_nothing_go_into_quarantine_and_everything_else_is_recorded(tmp_path: Path, store: str) -> None:
    bad: list[bytes] = [
        b'{"type":"MODIFIED","object":{"kind":"Workflow","metad\n',
        b"[1, 2]\n",
        b'{"type":"ADDED","object":{"kind":"Experiment","metadata":{"name":"x","uid":"y","resourceVersion":"1"}}}\n',
        b'{"type":"HTTP","status":410,"object":{"kind":"Status"}}\n',
        b'{"type":"ADDED","object":{"kind":"Workflow","metadata":{"name":"x","resourceVersion":"1"}}}\n',
        b"\xff\xfe\n",
    ]
    folder = copied("retry", tmp_path, lambda lines: lines)
    pods = folder / "pods.jsonl"
    good = pods.read_bytes()
    first = good.count(b"\n") + 1
    pods.write_bytes(good + b"".join(bad) + b'{"type":"ADDED","object":{"kind":"Po')

    for _ in range(2):  # again does not double it
        done = mdstore("writer", "replay", folder, "--store", store)

        assert done.returncode == 3
        assert f"7 in quarantine: mdstore writer quarantine --store {store}" in done.stderr
        listed = mdstore("writer", "quarantine", "--store", store)
        assert listed.returncode == 0
        places = [line for line in listed.stdout.splitlines() if not line.startswith("    ")]
        assert [place.split(": ")[0] for place in places] == [f"{pods}:{first + n}" for n in range(7)]
        reasons = [place.split(": ", 1)[1] for place in places]
        assert reasons[0].startswith("not JSON: ")
        assert reasons[1] == "a watch event is a JSON object, this is list"
        assert reasons[2] == "kind 'Experiment' is not known: only Pod, Workflow, WorkflowTaskResult are read"
        assert reasons[3].startswith("type 'HTTP' is no watch event's")
        assert reasons[4] == "the Workflow has no metadata.uid or no metadata.name"
        assert reasons[5].startswith("not JSON: ")
        assert reasons[6].endswith("(the line is cut off)")
        assert '{"type":"MODIFIED","object":{"kind":"Workflow","metad' in listed.stdout
        assert "7 in quarantine" in listed.stderr
    with connect(store) as client:
        found = contents(client, documents=None)
    pods.write_bytes(good)
    assert mdstore("writer", "replay", folder, "--store", store).returncode == 0
    assert mdstore("writer", "quarantine", "--store", store).stderr == "0 in quarantine\n"
    clean = replayed(f"{store}.other", EXAMPLES / "retry")
    assert {**found, "documents": {}} == clean


def test_a_workflow_without_status_and_an_artifact_without_location(tmp_path: Path, store: str) -> None:
    def without(lines: list[bytes]) -> list[bytes]:
        if b'"kind":"Workflow"' not in lines[0].replace(b" ", b""):
            return lines
        bare = orjson.loads(lines[0])
        bare["object"]["metadata"] |= {"name": "never-seen", "uid": "0-1", "resourceVersion": "999999"}
        bare["object"].pop("status", None)
        return [line.replace(b'"s3":{"key":"fixed/', b'"s4":{"key":"fixed/') for line in lines] + [
            orjson.dumps(bare) + b"\n"
        ]

    folder = copied("dag-artifacts", tmp_path, without)

    assert mdstore("writer", "replay", folder, "--store", store).returncode == 3

    listed = mdstore("writer", "quarantine", "--store", store).stdout
    assert f"{folder / 'workflows.jsonl'}:18: the workflow has no status" in listed
    assert "output artifact 'raw' of node 'train' (dag-artifacts-3776543609) has no location" in listed
    assert "in Workflow pipelines/never-seen" in listed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replay", "no/such/folder", "--store", "sqlite:////nowhere/x.db"], "no/such/folder is not a folder"),
        (["replay", str(EXAMPLES.parent / "docs"), "--store", "sqlite:////nowhere/x.db"], "holds no recorded events"),
        (["replay", str(EXAMPLES / "retry"), "--store", "sqlite:////nowhere/x.db"], "/nowhere"),
        (["replay", str(EXAMPLES / "retry"), "--store", "grpc://nobody"], "grpc://HOST:PORT"),
        (["quarantine", "--store", "grpc://127.0.0.1:1"], "127.0.0.1:1"),
        (["watch", "--store", "sqlite:////nowhere/x.db"], "no cluster to watch"),
    ],
)
def test_what_cannot_work_ends_in_one_line_and_2(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    done = mdstore("writer", *arguments)

    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mdstore: ")
    assert says in last
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_killed_anywhere_and_run_again_gives_the_same_store(tmp_path: Path, store: str) -> None:
    folders = [EXAMPLES / name for name in ("story", "kfp-lineage-demo", "memo-1-first", "memo-2-second", "fanout")]
    started = time.monotonic()
    expected = replayed(f"{store}.other", *folders)
    whole = time.monotonic() - started
    command = [*MDSTORE, "writer", "replay", *map(str, folders), "--store", store]

    for kill in range(1, 8):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * kill / 8)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    assert replayed(store, *folders) == expected


def test_the_replay_bar_is_for_a_person_only(store: str) -> None:
    done = mdstore("writer", "replay", EXAMPLES / "retry", "--store", store)

    assert "replaying" not in done.stderr
