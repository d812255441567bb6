"""`docs/graphql.md`: its queries are queries of this schema, and its table of errors names codes that there are."""

import re
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from mdstore.errors import STATUS
from mdstore_graphql.schema import MAX_ALIASES, MAX_DEPTH, MAX_TOKENS, sdl

PAGE = (Path(__file__).parents[2] / "docs" / "graphql.md").read_text()
QUERIES = re.findall(r"```graphql\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_page_is_valid(query: str) -> None:
    assert validate(build_schema(sdl()), parse(query)) == []


def test_the_page_has_its_queries() -> None:
    assert len(QUERIES) == 5


def test_the_codes_of_the_page_are_in_the_table() -> None:
    codes = re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE)
    assert len(codes) == 6
    assert set(codes) <= {status.code for status in STATUS.values()}


def test_the_limits_of_the_page_are_those_of_the_schema() -> None:
    assert f"{MAX_DEPTH} levels deep and have {MAX_TOKENS:,} tokens and {MAX_ALIASES} aliases" in PAGE
