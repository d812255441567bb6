"""The story told live: what is watched on a real cluster ends as what was recorded from one."""

import sys
from pathlib import Path

import pytest

from tests import system
from tests.cluster import driver, story
from tests.cluster.driver import Cluster
from tests.cluster.view import view
from tests.up.processes import Running

RECORDED = Path(__file__).resolve().parent.parent.parent / "examples" / "story"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_the_story_watched_live_gives_the_answers_of_the_recorded_one(cluster: Cluster, tmp_path: Path) -> None:
    with driver.inside(), system.running(tmp_path / "live") as live, system.running(tmp_path / "replayed") as replayed:
        with Running(
            [sys.executable, "-m", "mdstore", "writer", "replay", str(RECORDED), "--store", replayed.store_url]
        ) as replay:
            code, _ = replay.end(seconds=120)
            assert code == 0, replay.printed

        watch = [
            sys.executable,
            "-m",
            "mdstore",
            "writer",
            "watch",
            "--store",
            live.store_url,
            "--namespace",
            driver.PIPELINES,
        ]
        with Running(watch, environment={"KUBECONFIG": str(cluster.writer_kubeconfig)}) as watching:
            story.tell(cluster, heard=lambda name, phase, seconds: print(f"{name}: {phase} after {seconds:.0f} s"))

            expected = replayed.eventually(
                lambda: view(replayed.ask), lambda seen: len(seen["runs"]) == len(story.STORY)
            )
            seen = live.eventually(lambda: view(live.ask), lambda seen: seen == expected, seconds=30)
            assert watching.process.poll() is None, watching.printed
        assert seen == expected
