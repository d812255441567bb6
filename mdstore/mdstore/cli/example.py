"""The one question that `mdstore up` asks its own GraphQL API, to show what can be asked, and that it answers."""

import json
from dataclasses import dataclass
from typing import Any, Final

from mdstore.cli import ask


@dataclass(frozen=True, slots=True)
class Example:
    """A question in words, and as a GraphQL query."""

    words: str
    query: str


COUNTS: Final = Example(
    "How much is in the store?",
    "{ runs { totalCount } executions { totalCount } artifacts { totalCount } }",
)
ORIGIN: Final = Example(
    "Which runs does the released churn model come from?",
    "{ runs { totalCount } executions { totalCount } artifacts { totalCount } }",
)


async def answer(url: str, example: Example) -> Any:
    """What the API answers, as its `data`.

    Raises:
        OSError: nobody answers.
        ValueError: it answers with an error.
    """
    body = await ask.post_json(url, {"query": example.query})
    if body.get("errors"):
        raise ValueError(f"{url} answered {json.dumps(body['errors'])}")
    return body["data"]
