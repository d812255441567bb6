"""What each part of the language means, on a store that fits on a page."""

from collections.abc import Callable, Iterator

import pytest

from mdstore.errors import InvalidArgument
from mdstore.store.database import Database
from mdstore.store.filterquery import plan
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind
from mdstore.store.transaction import Transaction
from tests.filterquery import evaluator
from tests.filterquery.conftest import rolled_back
from tests.filterquery.example import example

ALL = list(range(1, 9))


@pytest.fixture
def tx(database: Database) -> Iterator[Transaction]:
    with rolled_back(database) as opened:
        example().write(opened)
        yield opened


@pytest.fixture
def tx_on_sqlite(on_sqlite: Database) -> Iterator[Transaction]:
    with rolled_back(on_sqlite) as opened:
        example().write(opened)
        yield opened


def check(tx: Transaction, kind: Kind, text: str, expected: list[int]) -> None:
    assert plan.matching(tx, kind, text, None, 100) == expected
    assert evaluator.matching(example(), plan.read(kind, text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Columns
        ("name = 'art1'", [2]),
        ("NAME = 'art1' AND `Uri` LIKE 's3%'", [2]),
        ("name = 'Name'", [4]),
        ("name = 'name'", []),
        ("type = 'Data'", [2, 4, 6, 8]),
        ("type LIKE 'd%'", [2, 4, 6, 8]),
        ("type_id = 101", [1, 3, 5, 7]),
        ("external_id = 'ext5'", [6]),
        ("external_id IS NULL", [1, 2, 3, 4, 5, 7, 8]),
        ("create_time_since_epoch >= 1006 AND last_update_time_since_epoch < 1994", [8]),
        # Properties: a node without the property is out, whatever is asked of it
        ("properties.i.int_value = 3", [4]),
        ("properties.`i`.INT_VALUE = 3", [4]),
        ("properties.I.int_value = 3", []),
        ("custom_properties.i.int_value = 3", []),
        ("custom_properties.`my key:x.y`.string_value = 'v1'", [2]),
        ("custom_properties.big.int_value = 1073741825", [2]),
        ("properties.b.bool_value", [2, 6]),
        ("NOT properties.b.bool_value", [4, 8]),
        ("properties.missing.int_value IS NULL", []),
        ("NOT (properties.missing.int_value = 1)", []),
        ("id = 1 OR properties.missing.int_value = 1", []),
        ("properties.i.double_value IS NULL", [1, 4, 7]),
        ("properties.i.int_value = 3 OR properties.s.string_value = 'x'", [4]),
        ("properties.i.int_value + custom_properties.c.int_value = 33", [4]),
        # Neighbours: one alias is one row
        ("contexts_a.type = 'Run' AND contexts_a.name = 'ctx0'", [1, 4, 7]),
        ("contexts_a.name = 'ctx0' AND contexts_a.name = 'ctx1'", []),
        ("contexts_a.name = 'ctx0' OR contexts_b.name = 'ctx1'", [1, 3, 4, 6, 7]),
        ("NOT contexts_a.name = 'ctx0'", [2, 3, 5, 6, 8]),
        ("contexts_a.id = contexts_b.id AND contexts_a.name='ctx0'", [1, 4, 7]),
        ("contexts_a.id < contexts_A.id", []),
        ("name = 'contexts_zz.name' OR TRUE", ALL),
        ("events_0.milliseconds_since_epoch = 1001 AND events_0.execution_id = 2", [2]),
        # Names of numbers
        ("state = LIVE", [3, 8]),
        ("State = LIVE", [3, 8]),
        ("state != LIVE", [1, 2, 4, 5, 6, 7]),
        ("state IN (LIVE, PENDING)", [2, 3, 7, 8]),
        ("state NOT IN (LIVE)", [1, 2, 4, 5, 6, 7]),
        ("NOT (state = LIVE)", [2, 4, 6, 7]),
        ("state = LIVE OR state = LIVE", [3, 8]),
        ("state = ABANDONED OR state = REFERENCE", []),
        ("2 = state", [3, 8]),
        ("(state) = 2", [3, 8]),
        ("state IN (2)", [3, 8]),
        ("state <> 2", [2, 4, 6, 7]),
        ("state BETWEEN 1 AND 2", [2, 3, 7, 8]),
        ("name = 'state = FOO' OR state IS NULL", [1, 5]),
        ("events_0.type = INPUT", [2, 5]),
        ("events_0.type IN (UNKNOWN, PENDING_OUTPUT)", []),
        # Precedence and three-valued logic
        ("id = 1 OR id = 2 AND id = 3", [1]),
        ("NOT id = 1 AND id = 2", [2]),
        ("2 + 3 * 4 = 14 AND 2 - 1 - 1 = 0 AND - - 1 = 1", ALL),
        ("state = LIVE AND NULL", []),
        ("id = 1 OR NULL", [1]),
        ("id NOT IN (1, NULL)", []),
        ("id IN (1, NULL)", [1]),
        ("(external_id = 'ext5') IS NOT TRUE", [1, 2, 3, 4, 5, 7, 8]),
        ("(state = LIVE) IS UNKNOWN", [1, 5]),
        ("id BETWEEN NULL AND 3", []),
        ("id NOT BETWEEN 2 AND 7", [1, 8]),
        # Literals and comments
        (r"name = '\x61\u0072\U00000074\061'", [2]),
        ('name = "art1" -- the first\n AND id = 0x2 # in hex\n AND /* both */ id < 1.5e1', [2]),
        ("name = r'art1' AND '''a'b''' = \"a'b\"", [2]),
        ("id < 18446744073709551615 AND id > -9223372036854775808", ALL),
        ("id = 1.0 OR id = 2.", [1, 2]),
        # LIKE takes upper and lower case for the same, = does not
        ("name LIKE 'ART_'", [1, 2, 3, 5, 6, 7, 8]),
        (r"properties.s.string_value LIKE 'a\\_b'", [6]),
        (r"name LIKE 'art\\_'", []),
        ("name IN ('ART1')", []),
        # Functions
        ("lower(name) = 'name' AND upper(name) = 'NAME'", [4]),
        ("length('é😀') = 2", ALL),
        ("substr(name, 4) = '1' OR substr(name, -1) = '2' OR substr(name, 0, 2) = 'Na'", [2, 3, 4]),
        ("trim(' x ') = 'x' AND rtrim(name, '1') = 'art' AND ltrim(name, 'ra') = 't1'", [2]),
        ("replace(name, 'art', '') = '1' AND concat(name, '-', uri) = name || '-s3://b/1'", [2]),
        ("starts_with(name, 'a') AND ends_with(uri, '/5') AND strpos(uri, 'b') = 6", [6]),
        ("coalesce(state, 9) = 9 AND ifnull(external_id, 'x') = 'x'", [1, 5]),
        ("nullif(id, 1) IS NULL OR abs(-id) = 2 OR if(id = 3, TRUE, FALSE)", [1, 2, 3]),
        ("greatest(id, 7) = least(id, 7)", [7]),
        ("mod(id, 4) = 3 OR div(id, 4) = 2 OR id / 2 = 0.5", [1, 3, 7, 8]),
        ("id / 0 = 1 OR mod(id, 0) = 1 OR div(id, 0) = 1", []),
        ("CAST(id AS STRING) = '2' OR CAST(id AS FLOAT64) = 3.0 OR CAST(id = 4 AS INT64) = 1", [2, 3, 4]),
        ("CASE WHEN id = 1 THEN 'a' WHEN id = 2 THEN 'b' END = 'b'", [2]),
        ("CASE name WHEN 'Name' THEN TRUE ELSE id = 1 END", [1, 4]),
        ("EXISTS (SELECT 1) AND id IN (SELECT 1)", [1]),
    ],
)
def test_artifacts(tx: Transaction, text: str, expected: list[int]) -> None:
    check(tx, ARTIFACT, text, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("custom_properties.parent_dag_id.int_value = 1", [3, 4]),
        ("last_known_state = RUNNING", [2]),
        ("last_known_state != RUNNING", [1, 3, 4, 5, 6]),
        ("last_known_state NOT IN (RUNNING, COMPLETE)", [1, 4, 5, 6]),
        ("last_known_state IN (NEW, CACHED, CANCELED)", [5, 6]),
        ("contexts_a.name = 'ctx1'", [2, 4, 6]),
        ("events_0.type = INPUT AND events_0.artifact_id = 2", [2]),
    ],
)
def test_executions(tx: Transaction, text: str, expected: list[int]) -> None:
    check(tx, EXECUTION, text, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parent_contexts_a.name = 'ctx3'", [1, 2]),
        ("parent_contexts_a.type = 'Pipe' AND parent_contexts_a.create_time_since_epoch > 1003", [3]),
        ("child_contexts_a.name = 'ctx0'", [4]),
        ("child_contexts_a.last_update_time_since_epoch = 1998", [5]),
        ("artifacts_a.external_id = 'ext5'", [2]),
        ("artifacts_a.uri LIKE '%/1' AND artifacts_a.state != LIVE", [3]),
        ("executions_a.last_known_state NOT IN (RUNNING) AND executions_a.name = 'ex1'", []),
        ("executions_a.external_id IS NULL AND executions_b.last_known_state = RUNNING", [2, 4]),
        ("custom_properties.k.string_value = 'v1'", [2]),
    ],
)
def test_contexts(tx: Transaction, text: str, expected: list[int]) -> None:
    check(tx, CONTEXT, text, expected)


def test_a_name_with_a_quote_is_a_name_and_no_sql(database: Database) -> None:
    world = example()
    hostile = "x' OR 1=1 -- \" ` \\"
    world.nodes[ARTIFACT][1].properties[True, hostile] = ("string_value", hostile)
    with rolled_back(database) as tx:
        world.write(tx)
        written = hostile.replace("\\", "\\\\").replace("'", "\\'")
        quoted = hostile.replace("\\", "\\\\").replace("`", "\\`")

        assert plan.matching(tx, ARTIFACT, f"name = '{written}'", None, 9) == []
        assert plan.matching(tx, ARTIFACT, f"custom_properties.`{quoted}`.string_value = '{written}'", None, 9) == [1]


MANY = 1_900
LARGE = {
    "alternatives": " OR ".join(f"id = {n}" for n in range(MANY)),
    "alternatives over two rows": " OR ".join(
        f"custom_properties.c.int_value = {n} OR custom_properties.big.int_value = {n}" for n in range(MANY // 2)
    ),
    "conditions": " AND ".join(f"id != -{n}" for n in range(MANY)),
    "negations": f"NOT ({' OR '.join(f'id = -{n}' for n in range(MANY))})",
    "conditions of a property": " AND ".join(f"custom_properties.c.int_value != -{n}" for n in range(1, MANY)),
    "conditions of neighbours": " AND ".join(
        f"contexts_a.id != -{n} AND contexts_b.id != -{n}" for n in range(MANY // 2)
    ),
    "a list": f"id IN ({', '.join(map(str, range(5_500)))})",
    "names": f"name NOT IN ({', '.join(map(repr, map(str, range(5_500))))})",
    "cases": f"CASE id {' '.join(f'WHEN {n} THEN TRUE' for n in range(MANY))} END",
    "a joined text": f"length(concat({', '.join(['name'] * 100)})) > 1",
    "rows": " AND ".join(f"contexts_{n}.id > 0" for n in range(20)),
    "rows that are compared": " AND ".join(f"contexts_{n}.id = contexts_{n + 1}.id" for n in range(19)),
    "a text": f"name != '{'x' * 100_000}'",
    "depth": "(" * 45 + "id > 0" + ")" * 45,
    "depth of rendering": "length(" + "nullif(" * 8 + "name" + ", 'x')" * 8 + ") > 0",
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_what_is_not_refused_is_answered(tx_on_sqlite: Transaction, text: str) -> None:
    found = plan.read(ARTIFACT, text)
    assert plan.matching(tx_on_sqlite, ARTIFACT, text, None, 100)
    if len(found.values) < 100:
        assert plan.matching(tx_on_sqlite, ARTIFACT, text, None, 100) == evaluator.matching(example(), found)


NESTED: dict[str, Callable[[int], str]] = {
    "parentheses": lambda n: "(" * n + "id > 0" + ")" * n,
    "negations": lambda n: "NOT " * n + "TRUE",
    "functions": lambda n: "name <= " + "upper(" * n + "name" + ")" * n,
    "last operands": lambda n: "name != " + "concat(name, " * n + "name" + ")" * n,
    "extremes": lambda n: "id > " + "greatest(0, " * n + "id" + ")" * n,
    "cases": lambda n: "CASE WHEN id < 0 THEN FALSE ELSE " * n + "id > 0" + " END" * n,
    "results": lambda n: "CASE WHEN TRUE THEN " * n + "id > 0" + " END" * n,
    "conditions": lambda n: "CASE WHEN " * n + "id > 0" + " THEN TRUE END" * n,
    "operands": lambda n: "CASE " * n + "id > 0" + " WHEN TRUE THEN TRUE END" * n,
    "lists": lambda n: "TRUE IN (FALSE, " * n + "id > 0" + ")" * n,
    "listed": lambda n: "(" * n + "id > 0" + ") IN (FALSE, TRUE)" * n,
    "ranges": lambda n: "id BETWEEN 0 AND if(" * n + "id > 0" + ", 9, 0)" * n,
    "sums": lambda n: "id > " + "(1 - " * n + "id" + ")" * n,
    "alternatives": lambda n: "(" * n + "id > 0" + " AND contexts_b.id > 0 OR contexts_c.id < 9)" * n,
    "alternatives over pairs": lambda n: (
        "(" * n + "contexts_a.id = contexts_b.id" + " AND contexts_b.id > 0 OR contexts_c.id < 9)" * n
    ),
    "alternatives over the same pairs": lambda n: (
        "(" * n + "contexts_a.id > contexts_b.id" + " AND contexts_b.id > 0 OR contexts_a.id < contexts_b.id)" * n
    ),
    "negated": lambda n: "(NOT(" * n + "contexts_a.id > contexts_b.id" + " AND contexts_b.id > 0) OR id = 1)" * n,
}


@pytest.mark.parametrize("form", NESTED.values(), ids=NESTED)
def test_any_depth_is_answered_or_refused(tx_on_sqlite: Transaction, form: Callable[[int], str]) -> None:
    for depth in range(1, 100):
        text = form(depth)
        try:
            found = plan.read(ARTIFACT, text)
        except InvalidArgument:
            assert depth > 4
            return
        assert plan.matching(tx_on_sqlite, ARTIFACT, text, None, 100) == evaluator.matching(example(), found)
    pytest.fail("there is no limit")


def test_filters_of_one_shape_share_what_is_compiled() -> None:
    shapes = {plan.read(EXECUTION, f"custom_properties.parent_dag_id.int_value = {n}").expression for n in range(5)}
    others = {plan.read(EXECUTION, f"custom_properties.p{n}.int_value = 1").expression for n in range(5)}

    assert len(shapes) == 1
    assert len(others) == 5
