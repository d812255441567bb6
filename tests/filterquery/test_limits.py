"""The widest and deepest filters that are not refused: servers of databases answer them too, and soon."""

from collections.abc import Callable, Iterator

import pytest

from mdstore.errors import InvalidArgument
from mdstore.store.database import Database
from mdstore.store.filterquery import plan
from mdstore.store.kinds import ARTIFACT, CONTEXT, Kind
from mdstore.store.transaction import Transaction
from tests.databases.fixtures import ENGINES
from tests.filterquery.conftest import rolled_back
from tests.filterquery.example import example
from tests.filterquery.test_language import LARGE, NESTED

pytestmark = pytest.mark.parametrize("database", ENGINES[1:], indirect=True)

PLANNED_S = 60
"""What a database that tries all orders of its tables would not keep to: it takes hours."""
ROWS = range(20)
WIDE: dict[str, tuple[Kind, str]] = {
    "neighbours of all relations": (
        CONTEXT,
        " AND ".join(
            f"{relation}_{n}.id > 0"
            for n in range(5)
            for relation in ("artifacts", "executions", "parent_contexts", "child_contexts")
        ),
    ),
    "properties": (ARTIFACT, " AND ".join(f"custom_properties.p{n}.int_value != 5" for n in ROWS)),
    "properties that are compared": (
        ARTIFACT,
        " AND ".join(f"custom_properties.p{n}.int_value = custom_properties.p{n + 1}.int_value" for n in ROWS[:-1]),
    ),
    "events": (ARTIFACT, " AND ".join(f"events_{n}.execution_id = {n}" for n in ROWS)),
    "names and types": (ARTIFACT, " AND ".join(f"contexts_{n}.name = 'c' AND contexts_{n}.type = 'R'" for n in ROWS)),
    "neighbours beside the node": (
        ARTIFACT,
        " AND ".join(
            f"contexts_{n}.name LIKE 'c%' AND contexts_{n}.create_time_since_epoch <= create_time_since_epoch"
            for n in ROWS
        ),
    ),
    "all pairs": (ARTIFACT, " AND ".join(f"contexts_{n}.id != contexts_{m}.id" for n in ROWS[:12] for m in range(n))),
    "types beside the node's": (ARTIFACT, " AND ".join(f"contexts_{n}.type < type" for n in ROWS)),
    "alternatives": (ARTIFACT, " AND ".join(f"(contexts_{n}.id = 1 OR events_{n}.type = INPUT)" for n in ROWS[:10])),
}  # fmt: skip


@pytest.fixture
def tx(database: Database) -> Iterator[Transaction]:
    """The example on a server that stops what takes too long."""
    limit = f"SET statement_timeout = {PLANNED_S * 1000}"
    if database.dialect.name == "mysql":
        limit = f"SET SESSION max_statement_time = {PLANNED_S}"
    with rolled_back(database) as found:
        found.cursor.execute(limit)
        example().write(found)
        yield found


def answer(tx: Transaction, on_sqlite: Database, kind: Kind, text: str) -> None:
    """Ask, and compare with SQLite, which other tests compare with the definition."""
    with rolled_back(on_sqlite) as other:
        example().write(other)
        assert plan.matching(tx, kind, text, None, 100) == plan.matching(other, kind, text, None, 100)


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_what_is_not_refused_is_answered_by_servers_too(tx: Transaction, on_sqlite: Database, text: str) -> None:
    answer(tx, on_sqlite, ARTIFACT, text)


@pytest.mark.parametrize(("kind", "text"), WIDE.values(), ids=WIDE)
def test_as_many_rows_as_may_be_are_planned_and_found(
    tx: Transaction, on_sqlite: Database, kind: Kind, text: str
) -> None:
    answer(tx, on_sqlite, kind, text)


@pytest.mark.parametrize("form", NESTED.values(), ids=NESTED)
def test_the_deepest_that_is_not_refused_is_answered_by_servers_too(
    tx: Transaction, on_sqlite: Database, form: Callable[[int], str]
) -> None:
    answer(tx, on_sqlite, ARTIFACT, form(deepest(form)))


def deepest(form: Callable[[int], str]) -> int:
    for depth in range(1, 100):
        try:
            plan.read(ARTIFACT, form(depth))
        except InvalidArgument:
            return depth - 1
    raise AssertionError("there is no limit")


def test_what_grows_longer_than_the_server_takes_is_refused_and_the_connection_kept(tx: Transaction) -> None:
    """MySQL has no NULLIF that looks at every character, so that its statement says each operand twice."""
    text = "length(" + "nullif(" * 8 + f"'{'x' * 120_000}'" + ", 'x')" * 8 + ") > 0"
    if tx.dialect == "mysql":
        with pytest.raises(InvalidArgument, match="max_allowed_packet"):
            plan.matching(tx, ARTIFACT, text, None, 100)
    else:
        assert len(plan.matching(tx, ARTIFACT, text, None, 100)) == 8
    assert plan.matching(tx, ARTIFACT, "id = 3", None, 100) == [3]
