"""Answers become objects only when somebody looks, and are then what a list and a dict would be."""

import pytest

from mdstore_lineage.embedded.later import Later
from mdstore_lineage.graph import Direction, Limits
from tests.lineage import logs
from tests.lineage.conftest import projected
from tests.lineage.oracle import artifact, execution


def test_items_are_made_once_and_not_before_they_are_needed() -> None:
    times: list[int] = []

    def make() -> list[str]:
        times.append(1)
        return ["a", "b", "c"]

    later = Later(3, make)
    assert len(later) == 3
    assert not times
    assert later[0] == "a"
    assert later[-2:] == ["b", "c"]
    assert list(later) == ["a", "b", "c"]
    assert "b" in later
    assert times == [1]


def test_they_equal_any_list_of_the_same_items() -> None:
    later = Later(2, lambda: [1, 2])

    assert later == [1, 2]
    assert [1, 2].__eq__(later) is NotImplemented  # so Python asks the other side
    assert later == (1, 2)
    assert later == Later(2, lambda: [1, 2])
    assert later != [2, 1]
    assert later != [1]
    assert later != {1, 2}
    assert repr(later) == "[1, 2]"


def test_an_answer_says_how_far_a_node_is_and_which_are_not_in_it() -> None:
    with projected(logs.chain(3)) as graph:
        found = graph.closure([execution(2)], Direction.UPSTREAM, limits=Limits(), artifact_types=["Model"])

    # The artifacts between are of another type, so they are walked through and not shown.
    assert found.hops == {execution(2): 0, execution(1): 2}
    assert found.hops[execution(1)] == 2
    assert artifact(1) not in found.hops
    assert found.hops.get(artifact(99)) is None
    assert list(found.hops) == found.nodes == [execution(2), execution(1)]
    assert len(found.hops) == 2
    with pytest.raises(KeyError):
        found.hops[artifact(2)]


def test_an_answer_outlives_the_graph_that_gave_it() -> None:
    with projected(logs.chain(3)) as graph:
        found = graph.closure([artifact(1)], Direction.DOWNSTREAM, limits=Limits())

    assert len(found.nodes) == 6
    assert [edge.execution_id for edge in found.edges] == [1, 1, 2, 2, 3]
