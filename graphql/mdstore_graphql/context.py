"""What the resolvers of one request work with."""

from dataclasses import dataclass
from typing import TypeAlias

import strawberry
from strawberry.fastapi import BaseContext

from mdstore.vocabulary import ContextRoles
from mdstore_graphql.loaders import Loaders
from mdstore_graphql.walks import Walks


@dataclass(eq=False)
class Context(BaseContext):
    """Lives for one request: its loaders remember what they have read."""

    loaders: Loaders
    walks: Walks
    roles: ContextRoles

    def __post_init__(self) -> None:
        super().__init__()


Info: TypeAlias = strawberry.Info[Context, None]
