"""A process that is killed while it applies leaves a graph that is exactly what its position says."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mdstore_lineage.opening import open_graph
from tests.lineage import logs
from tests.lineage.conftest import content, projected

BATCHES = 60
"""Of three commits, for each kill."""
KILLS = 3
RUNGS = 3 * BATCHES * KILLS


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_leaves_data_and_position_that_agree(graph_url: str, seed: int) -> None:
    commits = logs.ladder(RUNGS)
    dice = random.Random(seed)
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.lineage.applying", graph_url, str(RUNGS)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n" * BATCHES)
            child.stdin.flush()
            for _ in range(dice.randint(1, BATCHES - 10)):
                said = int(child.stdout.readline())
            time.sleep(dice.uniform(0, 0.003))
            child.kill()

        graph = open_graph(graph_url)
        position = graph.position
        assert said <= position < len(commits)
        found = content(graph)
        graph.close()
        with projected(commits[:position]) as wanted:
            assert found == content(wanted)

    graph = open_graph(graph_url)
    graph.apply(commits, store_id="store-1")
    found = content(graph)
    graph.close()
    with projected(commits) as wanted:
        assert found == content(wanted)
