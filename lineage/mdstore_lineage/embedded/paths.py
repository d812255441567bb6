"""Simple paths between two nodes, shortest first, in a part of the graph that was read before.

The search is A* with exact distances to the end, so a partial path is only ever followed where it can still become a
shortest remaining one. In a graph without cycles, as lineage nearly always is, each path costs its length times its
branches, however many paths there are. Around cycles a partial path can turn out to lead nowhere; there the deadline
bounds the work.
"""

import heapq
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeAlias

from mdstore_lineage.graph import Cut

LOOK_AT_THE_CLOCK_EVERY: Final = 256

Successors: TypeAlias = Mapping[int, Sequence[int]]


@dataclass(frozen=True, slots=True)
class _Partial:
    node: int
    before: "_Partial | None"
    hops: int
    on_cycles: frozenset[int]
    """Its nodes that a longer path could come back to."""


def successors_of(steps: Iterable[tuple[int, int]]) -> Successors:
    """From each node, where one step leads, by key; parallel steps count once."""
    found: defaultdict[int, set[int]] = defaultdict(set)
    for origin, target in steps:
        found[origin].add(target)
    return {origin: sorted(targets) for origin, targets in found.items()}


def shortest_paths(
    successors: Successors,
    distances: Mapping[int, int],
    start: int,
    end: int,
    *,
    most: int,
    most_hops: int | None,
    deadline: float,
) -> tuple[list[list[int]], set[Cut]]:
    """Up to `most` simple paths from `start` to `end`, shortest first, and why there are not more.

    Args:
        successors: the steps, all between nodes that have a distance.
        distances: of each node that leads to `end`, how far that is.
        start: where the paths begin; without a distance there is no path.
        end: where they end.
        most: how many.
        most_hops: longer paths are cut; None for no limit.
        deadline: by `time.monotonic()`.
    """
    paths: list[list[int]] = []
    cuts: set[Cut] = set()
    if start not in distances:
        return paths, cuts
    if most_hops is not None and distances[start] > most_hops:
        return paths, {Cut.HOPS}
    cyclic = _on_or_between_cycles(successors)
    turn = count()
    first = _Partial(start, None, 0, cyclic & {start})
    # By the length that it will have at least, then the longest first: go on with a path before beginning another.
    queue = [(distances[start], 0, next(turn), first)]
    while queue:
        at_least, _, number, partial = heapq.heappop(queue)
        if number % LOOK_AT_THE_CLOCK_EVERY == 0 and time.monotonic() >= deadline:
            cuts.add(Cut.TIME)
            break
        if partial.node == end:
            if len(paths) == most:
                cuts.add(Cut.PATHS)
                break
            paths.append(_nodes(partial))
            continue
        for node in successors.get(partial.node, ()):
            if node in partial.on_cycles:
                continue
            at_least = partial.hops + 1 + distances[node]
            if most_hops is not None and at_least > most_hops:
                if Cut.HOPS not in cuts and _leads_to(successors, node, end, avoiding=partial.on_cycles):
                    cuts.add(Cut.HOPS)
                continue
            on_cycles = partial.on_cycles | {node} if node in cyclic else partial.on_cycles
            longer = _Partial(node, partial, partial.hops + 1, on_cycles)
            heapq.heappush(queue, (at_least, -longer.hops, next(turn), longer))
    return paths, cuts


def _nodes(partial: _Partial) -> list[int]:
    nodes = []
    step: _Partial | None = partial
    while step is not None:
        nodes.append(step.node)
        step = step.before
    nodes.reverse()
    return nodes


def _on_or_between_cycles(successors: Successors) -> frozenset[int]:
    """The nodes left when those that nothing leads to, or that lead nowhere, are taken away again and again."""
    predecessors = successors_of((target, origin) for origin, targets in successors.items() for target in targets)
    left = set(successors) & set(predecessors)
    # How many neighbours that are left: none on one side means that no cycle runs through.
    for one_way, other_way in ((successors, predecessors), (predecessors, successors)):
        degree = {node: sum(near in left for near in other_way[node]) for node in left}
        gone = [node for node, number in degree.items() if number == 0]
        while gone:
            node = gone.pop()
            left.discard(node)
            for near in one_way[node]:
                if near in left:
                    degree[near] -= 1
                    if degree[near] == 0:
                        gone.append(near)
    return frozenset(left)


def _leads_to(successors: Successors, node: int, end: int, *, avoiding: Set[int]) -> bool:
    seen = {node}
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if at == end:
            return True
        for near in successors.get(at, ()):
            if near not in seen and near not in avoiding:
                seen.add(near)
                waiting.append(near)
    return False
