"""The schema: all types put together, with the limits that every operation has to keep."""

from typing import Final

import strawberry
from graphql import GraphQLError
from graphql.validation import ASTValidationRule
from strawberry.extensions import AddValidationRules, MaxTokensLimiter, ParserCache, SchemaExtension, ValidationCache
from strawberry.extensions.max_aliases import create_validator as alias_rule
from strawberry.extensions.query_depth_limiter import create_validator as depth_rule
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from mdstore_graphql.artifacts import Artifact
from mdstore_graphql.executions import Execution
from mdstore_graphql.failures import log_unexpected
from mdstore_graphql.query import Query
from mdstore_graphql.runs import Pipeline, Run
from mdstore_graphql.scalars import SCALARS

MAX_DEPTH: Final = 20
MAX_TOKENS: Final = 4000
MAX_ALIASES: Final = 50
_CACHED_OPERATIONS: Final = 256

# Made once and not once per request: the validation cache knows a rule by its class.
_RULES: Final[list[type[ASTValidationRule]]] = [
    depth_rule(MAX_DEPTH, None, None),
    alias_rule(MAX_ALIASES),
]


class Schema(strawberry.Schema):
    """Strawberry's schema, with our log in place of its own."""

    def process_errors(
        self,
        errors: list[GraphQLError],
        execution_context: ExecutionContext | None = None,  # noqa: ARG002 - strawberry's signature
    ) -> None:
        """Log what is a fault of ours, once."""
        for error in errors:
            log_unexpected(error)


def _limits() -> SchemaExtension:
    return AddValidationRules(_RULES)


def _tokens() -> SchemaExtension:
    return MaxTokensLimiter(MAX_TOKENS)


def _parsed() -> SchemaExtension:
    return ParserCache(_CACHED_OPERATIONS)


def _validated() -> SchemaExtension:
    return ValidationCache(_CACHED_OPERATIONS)


def make_schema() -> Schema:
    """The schema of the API."""
    return Schema(
        query=Query,
        types=[Artifact, Execution, Run, Pipeline],
        # The order counts: limits have to be known before the caches parse and validate.
        extensions=[_tokens, _limits, _parsed, _validated],
        config=StrawberryConfig(scalar_map=SCALARS),
    )


def sdl(schema: Schema | None = None) -> str:
    """The schema in GraphQL's definition language."""
    text = (schema or make_schema()).as_str()
    # The printer indents the empty line between two paragraphs.
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())
