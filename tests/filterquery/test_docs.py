"""`docs/filter-queries.md` and the section of `docs/compatibility.md` say what holds."""

import re
from pathlib import Path

import pytest

from mdstore.errors import InvalidArgument
from mdstore.store.filterquery import checking, columns, functions, parsing, plan, syntax
from mdstore.store.kinds import ARTIFACT, KINDS
from tests.filterquery.decided import DECIDED

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "filter-queries.md").read_text()
SECTION = (DOCS / "compatibility.md").read_text().partition("## Filter queries\n")[2].partition("\n## ")[0]
TABLE = PAGE.partition("| nodes | filter | finds |")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"^\| (artifacts|executions|contexts) \| (`+)(.*?)\2 \|", TABLE, re.MULTILINE)
LABELS = {kind.nodes_field: kind for kind in KINDS}


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) == 8


@pytest.mark.parametrize(("nodes", "text"), [(nodes, text) for nodes, _, text in EXAMPLES])
def test_an_example_of_the_page_is_a_filter(nodes: str, text: str) -> None:
    plan.read(LABELS[nodes], text)


def test_the_message_of_the_page_is_what_is_said() -> None:
    with pytest.raises(InvalidArgument) as caught:
        plan.read(ARTIFACT, "name ILIKE 'a%'")

    assert str(caught.value) in PAGE


def test_the_limits_of_the_page_are_those_of_the_language() -> None:
    counted = f"{parsing.MOST_CHARACTERS:,} characters, {parsing.MOST_TOKENS:,} words"
    bounded = f"{syntax.MOST_DEPTH} expressions inside each other, and {checking.MOST_ROWS} different properties"
    assert f"at most {counted}, {bounded}" in PAGE


def test_the_page_names_every_function_and_column() -> None:
    aliases = {"char_length", "character_length"}
    absent = {name for name in functions.FUNCTIONS if f"`{name}" not in PAGE} - aliases
    fields = {field for known in columns.NODE_FIELDS.values() for field in known}
    assert absent == set()
    assert {field for field in fields if field not in PAGE} == set()


def test_every_decision_has_its_row() -> None:
    rows = re.findall(r"^\| (.*?) \| ", SECTION, re.MULTILINE)
    assert set(rows) - {"decided", "---"} == set(DECIDED)
