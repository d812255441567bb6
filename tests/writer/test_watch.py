"""`mdstore writer watch` as a process, against an API server that has faults."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mdstore.client.connect import connect
from tests.contents import contents
from tests.up.processes import Running, until
from tests.writer.api import Api, serving
from tests.writer.recordings import EXAMPLES, events
from tests.writer.test_record import expected


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def kubeconfig(tmp_path: Path, api: Api) -> Iterator[Path]:
    with serving(tmp_path, api) as path:
        yield path


def watching(kubeconfig: Path, store: str, *options: str) -> Running:
    environment = {"KUBECONFIG": str(kubeconfig), "MDSTORE_SETTLE_S": "0.3", "MDSTORE_CLUSTER": "here"}
    return Running(
        [sys.executable, "-m", "mdstore", "writer", "watch", "--store", store, *options], environment=environment
    )


def recorded(store: str) -> dict[str, Any]:
    with connect(store) as client:
        return contents(client)


def eventually(store: str, holds: Callable[[dict[str, Any]], bool], *, seconds: float = 20) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        try:
            found = recorded(store)
        except KeyError:
            # It asks for one after the other, and something came in between that points to what it did not see.
            return None
        return found if holds(found) else None

    return until("the store holds what it should", look, seconds=seconds)


def states(found: dict[str, Any]) -> dict[str, str]:
    return {
        context["properties"]["workflow_name"]: context["properties"]["state"]
        for name, context in found["contexts"].items()
        if name.startswith("system.PipelineRun")
    }


def of(name: str) -> list[Any]:
    return [event for event in events(name) if event["type"] != "ERROR"]


def until_running(name: str) -> int:
    """How many events it takes until a pod of this recording runs."""
    given = of(name)
    for number, event in enumerate(given):
        if event["object"]["kind"] == "Pod" and event["object"]["status"].get("phase") == "Running":
            return number + 3
    raise AssertionError(f"no pod of {name} ever runs")


def test_what_is_watched_is_what_would_be_replayed(api: Api, kubeconfig: Path, store: str) -> None:
    given = of("memo-1-first") + of("memo-2-second")
    api.tell(given[:10])
    with watching(kubeconfig, store) as writer:
        writer.wait_for("watching")
        for start in range(10, len(given), 7):
            api.tell(given[start : start + 7])
            time.sleep(0.05)
        wanted = expected("memo-1-first", "memo-2-second")

        assert eventually(store, lambda found: found == wanted) == wanted

        writer.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert writer.process.wait(5) == 0
        assert time.monotonic() - started < 3
    assert "Traceback" not in writer.printed


def test_namespaces_are_watched_one_by_one(api: Api, kubeconfig: Path, store: str) -> None:
    with watching(kubeconfig, store, "--namespace", "one", "--namespace", "two") as writer:
        writer.wait_for("listed", count=6)
        paths = {path.partition("?")[0] for path in api.requests if "watch=true" not in path}
    assert paths >= {
        f"{group}/namespaces/{namespace}/{plural}"
        for namespace in ("one", "two")
        for group, plural in (
            ("/apis/argoproj.io/v1alpha1", "workflows"),
            ("/apis/argoproj.io/v1alpha1", "workflowtaskresults"),
            ("/api/v1", "pods"),
        )
    }


def test_after_410_it_lists_again_and_closes_what_is_gone(api: Api, kubeconfig: Path, store: str) -> None:
    given = of("retry")
    with watching(kubeconfig, store) as writer:
        writer.wait_for("listed", count=3)
        api.tell(given[: until_running("retry")])
        eventually(store, lambda found: states(found) == {"retry": "RUNNING"})

        api.take_away("retry")
        api.tell(of("fail")[:12])
        api.forget()

        found = eventually(store, lambda found: states(found) == {"retry": "DELETED", "fail": "RUNNING"})
        writer.wait_for("listing again")
        assert {
            execution["state"]
            for execution in found["executions"].values()
            if execution["properties"]["workflow_name"] == "retry"
        } == {"CANCELED"}


def test_a_watch_that_breaks_goes_on_where_it_was(api: Api, kubeconfig: Path, store: str) -> None:
    given = of("dag-artifacts")
    with watching(kubeconfig, store) as writer:
        writer.wait_for("listed", count=3)
        api.tell(given[:20])
        api.broken.add("cut")
        api.tell(given[20:40])
        writer.wait_for("watch interrupted")
        api.broken.add("500")
        api.tell(given[40:])
        writer.wait_for("leader changed")
        api.broken.clear()
        wanted = expected("dag-artifacts")

        assert eventually(store, lambda found: found == wanted, seconds=40) == wanted


def test_what_went_away_while_nobody_watched_is_closed_at_the_next_start(
    api: Api, kubeconfig: Path, store: str
) -> None:
    with watching(kubeconfig, store) as writer:
        writer.wait_for("listed", count=3)
        api.tell(of("retry")[: until_running("retry")])
        api.tell(of("loop")[: until_running("loop")])
        eventually(store, lambda found: states(found) == {"retry": "RUNNING", "loop": "RUNNING"})
        os.kill(writer.process.pid, signal.SIGKILL)
        writer.process.wait()
    api.take_away("retry")

    with watching(kubeconfig, store):
        found = eventually(store, lambda found: states(found) == {"retry": "DELETED", "loop": "RUNNING"})

    gone = [e for e in found["executions"].values() if e["properties"]["workflow_name"] == "retry"]
    assert {execution["state"] for execution in gone} == {"CANCELED"}
    assert {execution["properties"]["message"] for execution in gone} == {
        "the workflow went away while nobody watched: how it ended is not known"
    }


@pytest.mark.slow
def test_killed_anywhere_and_started_again_ends_the_same(api: Api, kubeconfig: Path, store: str) -> None:
    given = of("retry") + of("memo-1-first")
    step = len(given) // 4
    for part in range(4):
        with watching(kubeconfig, store) as writer:
            writer.wait_for("listed", count=3)
            # The workflow itself stays until the last part: what leaves between two lives is not told to anybody.
            told = [e for e in given[part * step : (part + 1) * step] if part == 3 or e["type"] != "DELETED"]
            api.tell(told)
            time.sleep(0.4)
            os.kill(writer.process.pid, signal.SIGKILL)
            writer.process.wait()
    with watching(kubeconfig, store):
        left = [e for e in given[: 3 * step] if e["type"] == "DELETED"]
        api.tell([*given[4 * step :], *left])
        wanted = expected("retry", "memo-1-first")

        assert eventually(store, lambda found: found == wanted, seconds=30) == wanted


def test_a_store_that_is_away_is_waited_for(api: Api, kubeconfig: Path, tmp_path: Path, store: str) -> None:
    serve = [sys.executable, "-m", "mdstore", "serve", "--database", store, "--grpc-port"]
    with Running([*serve, "0"]) as first:
        port = first.wait_for(r"127\.0\.0\.1:(\d+)")[1]
        with watching(kubeconfig, f"grpc://127.0.0.1:{port}") as writer:
            writer.wait_for("listed", count=3)
            api.tell(of("retry")[:20])
            time.sleep(1)
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait()
            api.tell(of("retry")[20:])
            writer.wait_for("store is away, trying again")
            with Running([*serve, port]):
                wanted = expected("retry")

                assert eventually(store, lambda found: found == wanted, seconds=40) == wanted


def test_an_unreachable_cluster_ends_in_one_line(tmp_path: Path, store: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))

    with watching(tmp_path / "kubeconfig", store) as writer:
        assert writer.process.wait(20) == 2
    assert "mdstore: the cluster http://127.0.0.1:1 does not answer: " in writer.printed
    assert "Traceback" not in writer.printed
    assert EXAMPLES.is_dir()
