"""What is refused, where the message says it is, and what it says to write instead."""

import time

import pytest

from mdstore.errors import InvalidArgument
from mdstore.store.filterquery import plan
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        # The language
        ("id == 1", "1:4", "write ="),
        ("id = 1 && id = 2", "1:8", "write AND"),
        ("id % 2 = 1", "1:4", "mod"),
        ("id = 1 XOR id = 2", "1:8", "!="),
        ("name ILIKE 'a'", "1:6", "LIKE"),
        ("name REGEXP 'a'", "1:6", "LIKE"),
        ("name SIMILAR TO 'a'", "1:6", "LIKE"),
        ("name COLLATE 'x' = 'a'", "1:6", "LIKE does not"),
        ("name LIKE 'a' ESCAPE 'x'", "1:15", "pattern"),
        ("name LIKE ANY ('a')", "1:11", "OR between"),
        ("id IS DISTINCT FROM 1", "1:7", "IS NULL"),
        ("id = ?", "1:6", "parameters"),
        ("id = @p", "1:6", "parameters"),
        ("id = 1;", "1:7", "leave it out"),
        ("id IN ()", "1:8", ")"),
        ("id = 1 IS NULL", "1:8", "parentheses"),
        ("id < 3 = TRUE", "1:8", "parentheses"),
        ("id = 1 LIMIT 1", "1:8", "max_result_size"),
        ("id IN UNNEST([1])", "1:7", "IN (..)"),
        ("id IN (SELECT id FROM Artifact)", "1:18", "neighbour"),
        ("id & 1 = 1", "1:4", "bits"),
        ("[1] = id", "1:1", "arrays"),
        ("(id = 1", "1:8", "close the parentheses"),
        ("id = 1)", "1:7", "take it out"),
        ("\n\n  id = ", "3:8", "ends in the middle"),
        ("id 1", "1:4", "missing"),
        # Literals
        (r"name = 'a\_b'", "1:8", "r'..'"),
        (r"name = '\ud800'", "1:8", "no character"),
        (r"name = '\000'", "1:8", "NUL"),
        ("name = 'it''s'", "1:12", r"\'"),
        ("name = 'open", "1:8", "end the string"),
        ("name = b'a'", "1:8", "write a string"),
        ("`` = 1", "1:1", "at least one character"),
        ("id = 1L", "1:6", "space"),
        ("id = 18446744073709551616", "1:6", "64 bits"),
        ("id = 1e999", "1:6", "double"),
        # Names
        ("foo = 1", "1:1", "an artifact has id, "),
        ("artifact.id = 1", "1:1", "an artifact has id, "),
        ("last_known_state = RUNNING", "1:1", "no column last_known_state"),
        ("properties.i = 1", "1:1", "properties.NAME.FIELD"),
        ("properties.i.foo = 1", "1:1", "int_value"),
        ("properties.a-b.int_value = 1", "1:1", "backquotes"),
        ("contexts_a IS NULL", "1:1", "no column contexts_a"),
        ("contexts_a.external_id = 'x'", "1:1", "contexts_a has id, name, type"),
        ("Contexts_a.id = 1", "1:1", "no column Contexts_a.id"),
        ("events_0.artifact_id = 1", "1:1", "execution_id"),
        ("contexts_a . name = 'x'", "1:12", "without spaces"),
        ("contexts_a.name.x = 1", "1:1", "contexts_a has"),
        ("`contexts_a`.name = 'x'", "1:1", "without backquotes"),
        # Names of numbers
        ("state = live", "1:9", "LIVE"),
        ("state = 2", "1:9", "UNKNOWN, PENDING, LIVE"),
        ("state != 2", "1:10", "LIVE"),
        ("state IN (2, 3)", "1:11", "LIVE"),
        ("state IN (LIVE, 3)", "1:17", "LIVE"),
        ("state <> LIVE", "1:7", "write state != LIVE"),
        ("state < LIVE", "1:9", "right of ="),
        ("LIVE = state", "1:1", "right of ="),
        ("state = 'LIVE'", "1:7", "INT64, STRING"),
        ("events_0.type = RUNNING", "1:17", "DECLARED_OUTPUT"),
        # Types
        ("id = 'x'", "1:4", "without quotes"),
        ("name = 1", "1:6", "STRING, INT64"),
        ("properties.b.bool_value = 1", "1:25", "BOOL, INT64"),
        ("name = NULL", "1:8", "IS NULL"),
        ("NOT NULL", "1:5", "IS NULL"),
        ("name LIKE NULL", "1:11", "IS NULL"),
        ("name LIKE name", "1:11", "in quotes"),
        ("name LIKE 'a\\\\'", "1:11", "escape"),
        ("id LIKE '1'", "1:4", "INT64, STRING"),
        ("id IN (1, 'x')", "1:4", "INT64, STRING"),
        ("id BETWEEN 'a' AND 'b'", "1:4", "INT64, STRING"),
        ("id AND TRUE", "1:1", "INT64"),
        ("NOT id", "1:5", "INT64"),
        ("(id) IS TRUE", "1:2", "INT64"),
        ("name + 'x' = 'y'", "1:6", "||"),
        ("-name = 1", "1:1", "number"),
        ("CASE WHEN 1 THEN TRUE END", "1:1", "WHEN"),
        ("CASE id WHEN 'x' THEN TRUE END", "1:1", "INT64, STRING"),
        ("CASE WHEN TRUE THEN 1 ELSE 'x' END = 1", "1:1", "INT64, STRING"),
        # Functions
        ("foo(id) = 1", "1:1", "there are abs"),
        ("count(id) = 1", "1:1", "aggregates"),
        ("abs(name) = 1", "1:1", "abs(number)"),
        ("abs(id, id) = 1", "1:1", "abs(number)"),
        ("lower(id) = 'x'", "1:1", "lower(STRING)"),
        ("coalesce(id, 'x') = 1", "1:1", "one type"),
        ("coalesce() = 1", "1:1", "nothing"),
        ("substr(name, id) = 'x'", "1:1", "literal"),
        ("trim(name, uri) = 'x'", "1:1", "literal"),
        ("mod(id, 1.5) = 1", "1:1", "INT64"),
        ("CAST(name AS INT64) = 1", "1:1", "cast"),
        ("CAST(id AS DATE) = 1", "1:1", "int64"),
        ("regexp_contains(name, 'a')", "1:1", "LIKE"),
        # No condition
        ("id", "1:1", "INT64"),
        ("1", "1:1", "INT64"),
        ("NULL", "1:1", "NULL"),
        ("'text'", "1:1", "STRING"),
        ("   ", "1:4", "ends in the middle"),
    ],
)
def test_the_message_says_where_and_what_to_write(text: str, place: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        plan.read(ARTIFACT, text)

    message = str(caught.value)
    assert message.startswith("Invalid `filter_query`: ")
    assert f"[at {place}]" in message
    assert words in message


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (EXECUTION, "uri = 'x'"),
        (EXECUTION, "state = LIVE"),
        (EXECUTION, "events_0.execution_id = 1"),
        (EXECUTION, "parent_contexts_a.id = 1"),
        (CONTEXT, "contexts_a.id = 1"),
        (CONTEXT, "events_0.type = INPUT"),
        (CONTEXT, "artifacts_a.type_id = 1"),
        (CONTEXT, "artifacts_a.last_known_state = RUNNING"),
        (CONTEXT, "executions_a.uri = 'x'"),
        (CONTEXT, "parent_contexts_a.external_id = 'x'"),
    ],
)
def test_columns_of_another_kind_are_refused(kind: Kind, text: str) -> None:
    with pytest.raises(InvalidArgument, match="no column"):
        plan.read(kind, text)


HOSTILE = {
    "parentheses": "(" * 10_000 + "TRUE" + ")" * 10_000,
    "minus signs": "id = " + "- " * 10_000 + "id",
    "negations": "NOT " * 10_000 + "TRUE",
    "sums": "id = " + "+".join(["id"] * 5_000),
    "joined texts": "name = " + "||".join(["name"] * 5_000),
    "calls": "name = " + "lower(" * 5_000 + "name" + ")" * 5_000,
    "cases": "CASE WHEN TRUE THEN " * 3_000 + "TRUE" + " END" * 3_000,
    "doubled by their rendering": "abs(" * 45 + "id" + ")" * 45 + " = 1",
    "grown texts": "name = " + "replace(" * 40 + "name" + ", 'a', 'aaaaaaaaaaaaaaaaaaaa')" * 40,
    "operands": f"name = concat({', '.join(['name'] * 500)})",
    "alternatives": " OR ".join(["(contexts_a.id = 1 AND contexts_b.id = 2)"] * 500),
    "names": " OR ".join(f"properties.p{n}.int_value = 1" for n in range(2_000)),
    "neighbours": " OR ".join(f"contexts_{n}.id = 1" for n in range(2_000)),
    "words": " OR ".join(["TRUE"] * 100_000),
    "a long list": f"id IN ({','.join(['1'] * 60_000)})",
    "a megabyte of name": "x" * 1_000_000,
    "a megabyte of text": f"name = '{'x' * 1_000_000}'",
    "quotes": "'" * 100_001,
    "triple quotes": "'''" * 33_333 + "'",
    "escapes": "'" + "\\" * 100_001,
    "backquotes": "`" * 100_000,
    "comments": "/*" * 60_000,
    "dots": "a." * 60_000,
    "digits": "id = " + "9" * 100_000,
    "hex digits": "id = 0x" + "f" * 100_000,
    "exponent": "id = 1e" + "9" * 100_000,
    "newlines": "\n" * 100_000 + "!",
    "a pattern": f"name LIKE '{'%a' * 20_000}'",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_filters_are_refused_soon(text: str) -> None:
    plan.read(ARTIFACT, "TRUE")  # the parser is there
    begun = time.perf_counter()
    with pytest.raises(InvalidArgument) as caught:
        plan.read(ARTIFACT, text)

    # Most take a few milliseconds; the bound leaves room for a machine that is busy.
    assert time.perf_counter() - begun < 2
    assert len(str(caught.value)) < 1_000
