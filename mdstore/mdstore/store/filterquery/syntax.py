"""What a filter's text says, before it is known what its names mean; and where in the text a fault is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from mdstore.errors import InvalidArgument

MOST_DEPTH = 50
"""How deep expressions may nest. A statement is rendered recursively, and Python's stack has its end."""
MOST_WHAT = 200
MOST_HINT = 500
"""Characters of a message's parts, which may quote the filter."""


class FilterFault(Exception):
    """Something in a filter cannot be."""

    def __init__(self, what: str, at: int, instead: str = "") -> None:
        """Say what is wrong, at which character, and what to write instead."""
        super().__init__(what)
        self.what = what
        self.at = at
        self.instead = instead

    def in_text(self, text: str) -> InvalidArgument:
        """The error that the caller of a list gets."""
        line = text.count("\n", 0, self.at) + 1
        column = self.at - text.rfind("\n", 0, self.at)
        what = _shortened(self.what, MOST_WHAT)
        hint = f"; {_shortened(self.instead, MOST_HINT)}" if self.instead else ""
        return InvalidArgument(f"Invalid `filter_query`: {what} [at {line}:{column}]{hint}")


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}.."


@dataclass(frozen=True, slots=True)
class Name:
    """A column: its parts are separated by dots."""

    parts: tuple[str, ...]
    quoted: tuple[bool, ...]
    """Which parts stood in backquotes."""
    at: int
    depth: int = 1

    def __str__(self) -> str:
        return ".".join(f"`{part}`" if quoted else part for part, quoted in zip(self.parts, self.quoted, strict=True))


@dataclass(frozen=True, slots=True)
class Value:
    """A number, a text, TRUE, FALSE or NULL."""

    value: int | float | str | bool | None
    at: int
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator or a function, in lower case, with its operands."""

    op: str
    args: tuple["Syntax", ...]
    at: int
    """Of the operator or the function's name."""
    depth: int


@dataclass(frozen=True, slots=True)
class Group:
    """An expression in parentheses."""

    inner: "Syntax"
    at: int
    depth: int


Syntax = Name | Value | Apply | Group


def applied(op: str, args: Sequence[Syntax], at: int) -> Apply:
    """An operator with its operands."""
    return Apply(op, tuple(args), at, _deeper(args, at))


def grouped(inner: Syntax, at: int) -> Group:
    """An expression in parentheses."""
    return Group(inner, at, _deeper((inner,), at))


def _deeper(args: Sequence[Syntax], at: int) -> int:
    depth = 1 + max((arg.depth for arg in args), default=0)
    if depth > MOST_DEPTH:
        raise FilterFault(f"more than {MOST_DEPTH} expressions inside each other", at, "write it flatter")
    return depth


def inside(node: Syntax) -> Syntax:
    """An expression without the parentheses around it."""
    while isinstance(node, Group):
        node = node.inner
    return node


def fault(what: str, at: int, instead: str = "") -> NoReturn:
    """Raise a `FilterFault`."""
    raise FilterFault(what, at, instead)
