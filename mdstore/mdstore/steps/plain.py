"""Whatever a step logs, as values that every database and JSON hold."""

import itertools
from collections.abc import Mapping
from typing import Final

from mdstore.values import JSON

TEXT_CHARACTERS: Final = 10_000
"""Of a text; a longer one is cut off. Databases have a limit, and a property is no place for data."""
NAME_CHARACTERS: Final = 200
MOST_ITEMS: Final = 500
"""Of a list or an object."""


def name(given: str) -> str:
    """A name of bounded length without what databases do not hold."""
    return str(given).encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:NAME_CHARACTERS]


def properties(given: Mapping[str, object] | None) -> dict[str, JSON]:
    """Properties by such names."""
    return {name(key): plain(value) for key, value in (given or {}).items()}


def plain(value: object) -> JSON:
    """A value as JSON; what is none, as the number that it holds or as its text."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return float(value)
        case str():
            return value[:TEXT_CHARACTERS]
        case Mapping():
            return {name(str(key)): plain(item) for key, item in itertools.islice(value.items(), MOST_ITEMS)}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in itertools.islice(value, MOST_ITEMS)]
    item = getattr(value, "item", None)  # a scalar of NumPy's, PyTorch's, JAX's
    if callable(item) and getattr(value, "size", 1) == 1:
        number = item()
        if isinstance(number, bool | int | float | str):
            return number
    return str(value)[:TEXT_CHARACTERS]
