"""Lineage graphs of the tests' stores."""

import threading
from contextlib import closing
from typing import Any

import mdstore
from mdstore_lineage.opening import open_graph
from mdstore_lineage.position import wait_for_position
from mdstore_lineage.projector import Projector
from tests.store.log import followed


def project(url: str, graph_url: str) -> bool:
    """Let a graph catch up; whether it was projected anew."""
    over = threading.Event()
    with closing(open_graph(graph_url)) as graph:
        cleared: list[int] = []
        clear = graph.clear

        class Seen:
            """The graph, noting when it is emptied."""

            def __getattr__(self, name: str) -> Any:
                return getattr(graph, name)

            def clear(self, *, until: int = 0) -> None:
                cleared.append(graph.position)
                clear(until=until)

        projector = Projector(lambda: mdstore.connect(url), Seen(), is_stopping=over.is_set)  # type: ignore[arg-type]
        thread = threading.Thread(target=projector.run)
        thread.start()
        try:
            with mdstore.connect(url) as client:
                wait_for_position(graph, followed(client)[-1].seq, timeout=20)
        finally:
            over.set()
            thread.join()
    return any(cleared)
