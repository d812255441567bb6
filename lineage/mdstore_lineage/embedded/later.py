"""Nodes, distances and edges of an answer that become objects when somebody looks at them.

Seventy thousand nodes and twice as many edges take longer to make than to find, and much of what is asked looks at only
a part: how many there are, how far one of them is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, overload

from mdstore_lineage.embedded.keys import key_of, nodes_of
from mdstore_lineage.graph import ArtifactNode, ExecutionNode, Node

T = TypeVar("T")


class Later(Sequence[T], Generic[T]):
    """A sequence whose items are made, all at once, the first time that one of them is needed.

    Equal to any list or tuple of the same items. Threads: any number; two that are first make the items twice.
    """

    __slots__ = ("_length", "_made", "_make")

    def __init__(self, length: int, make: Callable[[], list[T]]) -> None:
        """Take how many items there are, and what makes them."""
        self._length = length
        self._make: Callable[[], list[T]] | None = make
        self._made: list[T] | None = None

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._items()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._items())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Later | list | tuple):
            return NotImplemented
        return len(self) == len(other) and self._items() == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def __repr__(self) -> str:
        return repr(self._items())

    def _items(self) -> list[T]:
        # In this order: another thread sets what was made before it drops what makes it.
        make, made = self._make, self._made
        if made is None:
            assert make is not None
            self._made = made = make()
            self._make = None  # and with it what the items were made from
        return made


class Distances(Mapping[Node, int]):
    """How far each node is, by its key."""

    __slots__ = ("_by_key", "_nodes")

    def __init__(self, nodes: Later[Node], by_key: Mapping[int, int]) -> None:
        """Take the nodes in the answer's order, and the distance of each by its key."""
        self._nodes = nodes
        self._by_key = by_key

    def __getitem__(self, node: Node) -> int:
        if not isinstance(node, ArtifactNode | ExecutionNode):
            raise KeyError(node)
        try:
            return self._by_key[key_of(node)]
        except KeyError:
            raise KeyError(node) from None

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._by_key)

    def __repr__(self) -> str:
        return repr(dict(self))


def nodes_later(keys: Sequence[int]) -> Later[Node]:
    """The nodes of the keys."""
    return Later(len(keys), lambda: nodes_of(keys))
