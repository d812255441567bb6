"""The story told live: what is watched on a real cluster ends as what was recorded from one."""

import contextlib
import signal
from pathlib import Path

import pytest

from tests import system
from tests.cluster import driver, story
from tests.cluster.driver import Cluster
from tests.cluster.view import view
from tests.system import System
from tests.up.processes import Running, mdstore

RECORDED = Path(__file__).resolve().parent.parent.parent / "examples" / "story"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def watch(cluster: Cluster, store: System) -> Running:
    """A writer with the rights of a writer, and no others."""
    environment = {"KUBECONFIG": str(cluster.writer_kubeconfig)}
    return mdstore(
        "writer", "watch", "--store", store.store_url, "--namespace", driver.PIPELINES, environment=environment
    )


def test_the_story_watched_live_gives_the_answers_of_the_recorded_one(cluster: Cluster, tmp_path: Path) -> None:
    with contextlib.ExitStack() as ending:
        ending.enter_context(driver.inside())
        live = ending.enter_context(system.running(tmp_path / "live"))
        replayed = ending.enter_context(system.running(tmp_path / "replayed"))
        with mdstore("writer", "replay", str(RECORDED), "--store", replayed.store_url) as replay:
            assert replay.end(seconds=120)[0] == 0, replay.printed
        watching = [ending.enter_context(watch(cluster, live))]

        def heard(name: str, phase: str, seconds: float) -> None:
            print(f"{name}: {phase} after {seconds:.0f} s", flush=True)
            # The first writer dies, and the next one finds a whole run that happened meanwhile.
            if name == "churn-train-nov18":
                watching[0].send(signal.SIGKILL)
            elif name == "churn-release-nov18":
                watching.append(ending.enter_context(watch(cluster, live)))

        story.tell(cluster, heard=heard)

        expected = replayed.eventually(lambda: view(replayed.ask), lambda seen: len(seen["runs"]) == len(story.STORY))
        seen = live.eventually(lambda: view(live.ask), lambda seen: seen == expected, seconds=30)
        assert watching[1].process.poll() is None, watching[1].printed
        assert "Traceback" not in watching[1].printed, watching[1].printed

    # What is compared is all there: every run, and lineage that crosses them.
    assert len(expected["runs"]) == len(story.STORY)
    (release,) = [origin for origin in expected["upstream"] if origin["of"].endswith("release.yaml")]
    assert {"churn-release-nov18", "churn-train-nov18", "customers-data-nov18"} <= {
        run["name"] for run in release["runs"]
    }
    assert seen == expected
