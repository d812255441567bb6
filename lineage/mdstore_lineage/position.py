"""Reading one's own writes: waiting until a graph has followed the store far enough."""

import time
from typing import Final

from mdstore.errors import DeadlineExceeded
from mdstore_lineage.graph import LineageGraph

_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.02


def wait_for_position(graph: LineageGraph, seq: int, timeout: float) -> int:
    """Wait until the graph reflects the commit `seq`, at most `timeout` seconds; the position it has then.

    Raises:
        DeadlineExceeded: it is not that far yet.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE_S
    while (position := graph.position) < seq:
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the lineage graph is at commit {position} and not yet at {seq}; ask again")
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)
    return position
