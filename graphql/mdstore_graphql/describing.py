"""Docstrings are the schema's descriptions: what a client reads in GraphiQL is what a reader of the code reads.

Strawberry's decorators, but for that; and typed, so that mypy sees the decorated functions as they are.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast, dataclass_transform

import strawberry

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def _text(documented: object) -> str | None:
    """A docstring with its lines joined; paragraphs stay."""
    text = inspect.getdoc(documented)
    return None if text is None else "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field,))
def api_type(cls: type[T]) -> type[T]:
    """A GraphQL type."""
    return strawberry.type(cls, description=_text(cls))


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field,))
def api_interface(cls: type[T]) -> type[T]:
    """A GraphQL interface."""
    return strawberry.interface(cls, description=_text(cls))


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field,))
def api_input(cls: type[T]) -> type[T]:
    """A GraphQL input type."""
    return strawberry.input(cls, description=_text(cls))


def api_field(resolver: FunctionT) -> FunctionT:
    """A field that a function answers."""
    return cast("FunctionT", strawberry.field(resolver, description=_text(resolver)))


def api_field_named(name: str) -> Callable[[FunctionT], FunctionT]:
    """A field that a function answers, where GraphQL's name is no name in Python."""

    def decorate(resolver: FunctionT) -> FunctionT:
        return cast("FunctionT", strawberry.field(resolver, name=name, description=_text(resolver)))

    return decorate
