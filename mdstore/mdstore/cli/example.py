"""The one question that `mdstore up` asks its own GraphQL API, to show what can be asked, and that it answers."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final

from mdstore.cli import ask

SETTLE_S: Final = 0.25
"""The graph follows the store within this time, and an answer that stays so long the same is the whole one."""
SETTLES: Final = 40


@dataclass(frozen=True, slots=True)
class Example:
    """A question in words, and as a GraphQL query."""

    words: str
    query: str


COUNTS: Final = Example(
    "How much is recorded?",
    "{ runs { totalCount } executions { totalCount } artifacts { totalCount } }",
)
ORIGIN: Final = Example(
    "Where did the released churn model come from, over all runs?",
    """\
{
  artifact(uri: "s3://artifacts/models/churn/churn-train-nov18/model.csv") {
    lineage(direction: UPSTREAM) {
      byRun { run { name } executions { taskName state } used { name } made { name } }
    }
  }
}""",
)


async def answer(url: str, example: Example, *, settled: bool) -> Any:
    """What the API answers, as its `data`.

    Args:
        url: the API's address.
        example: what to ask.
        settled: ask again until the answer has stopped changing: the graph may be following what was just recorded.

    Raises:
        OSError: nobody answers.
        ValueError: it answers with an error.
    """
    found = await _ask(url, example)
    for _ in range(SETTLES if settled else 0):
        before = found
        await asyncio.sleep(SETTLE_S)
        found = await _ask(url, example)
        if found == before:
            break
    return found


async def _ask(url: str, example: Example) -> Any:
    body = await ask.post_json(url, {"query": example.query})
    if body.get("errors"):
        raise ValueError(f"{url} answered {json.dumps(body['errors'])}")
    return body["data"]


def shown(value: Any, indent: str = "") -> str:
    """JSON for people: like `json.dumps(indent=2)`, but what fits on a line stays on it."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= 110 or not isinstance(value, (dict, list)):
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(name)}: {shown(part, inner)}" for name, part in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + shown(part, inner) for part in value) + f"\n{indent}]"
