"""Applies a known log to a graph in small batches until it is killed: a process of the crash test."""

import sys

from mdstore_lineage.opening import open_graph
from tests.lineage import logs
from tests.lineage.oracle import STORE


def main() -> None:
    url, rungs = sys.argv[1], int(sys.argv[2])
    graph = open_graph(url)
    commits = logs.ladder(rungs)
    rest = commits[graph.position :]
    for _ in sys.stdin:  # a line for each batch, so that no child gets to the end before it is killed
        graph.apply(rest[:3], store_id=STORE)
        print(rest[2].seq, flush=True)
        rest = rest[3:]


if __name__ == "__main__":
    main()
