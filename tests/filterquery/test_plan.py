"""How filters are answered on SQLite: what a statement begins with, and its cost in a small and a large store."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mdstore.store.database import Database, open_database
from mdstore.store.dialects import Dialect
from mdstore.store.filterquery import plan
from mdstore.store.filterquery.plan import Scope
from mdstore.store.kinds import CONTEXT, EXECUTION, Kind
from mdstore.store.operations import lists
from mdstore.store.sql import Statement
from mdstore.store.transaction import Row, Transaction
from mdstore.wire import mlmd

SMALL, LARGE = 300, 12_000
TASKS = 10
"""Of a run, beside its root."""
STEPS = 50
"""Instructions of SQLite's machine between two looks of the meter."""


def fill(database: Database, runs: int) -> None:
    """Runs as Kubeflow Pipelines leaves them: each a context with a root and its tasks, all in a pipeline's context."""
    size = TASKS + 1
    numbers = f"WITH RECURSIVE run(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM run WHERE n < {runs - 1})"
    tasks = f"{numbers}, task(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM task WHERE k < {TASKS})"
    each = f"n * {size} + k + 1"
    properties = (
        f"{tasks} INSERT INTO ExecutionProperty (execution_id, name, is_custom_property, int_value) SELECT {each}"
    )
    members = f"{tasks} INSERT INTO Association (context_id, execution_id) SELECT"
    with database.connection() as connection:
        connection.executescript(f"""
            INSERT INTO Type (id, name, type_kind)
                VALUES (100, 'Task', 0), (101, 'Root', 0), (102, 'Run', 2), (103, 'P', 2);
            {tasks} INSERT INTO Execution
                SELECT {each}, CASE k WHEN 0 THEN 101 ELSE 100 END, k % 7,
                    n || '/' || k, NULL, n * 1000 + k, n * 1000 + k
                FROM run, task;
            {properties}, 'parent_dag_id', 1, n * {size} + 1 FROM run, task WHERE k > 0;
            {properties}, 'cached', 1, k % 2 FROM run, task;
            {numbers} INSERT INTO Context SELECT n + 2, 102, 'run' || n, NULL, n, n FROM run;
            INSERT INTO Context VALUES (1, 103, 'pipeline', NULL, 0, 0);
            {members} n + 2, {each} FROM run, task;
            {members} 1, {each} FROM run, task;
        """)


class Meter(Transaction):
    """A transaction that knows what its statements cost."""

    def __init__(self, connection: object, dialect: Dialect) -> None:
        super().__init__(connection, dialect, lambda: 0)
        self.connection = connection
        self.ran: list[tuple[Statement, dict[str, object]]] = []
        self.steps = 0

    def rows(self, statement: Statement, **parameters: object) -> list[Row]:
        self.ran.append((statement, parameters))
        return list(super().rows(statement, **parameters))

    def rows_at_last(self, *questions: tuple[Statement, Mapping[str, Any]]) -> list[Sequence[Row]]:
        self.ran += [(statement, dict(parameters)) for statement, parameters in questions]
        return super().rows_at_last(*questions)

    def plans(self) -> list[str]:
        """SQLite's plan of each statement."""
        found = []
        for statement, parameters in self.ran:
            compiled = statement.on("sqlite")
            rows = self.text_rows(f"EXPLAIN QUERY PLAN {compiled.text}", compiled.arguments(parameters))
            found.append("\n".join(str(row[3]) for row in rows))
        return found


@contextmanager
def metered(database: Database) -> Iterator[Meter]:
    with database.connection() as connection:
        meter = Meter(connection, database.dialect)

        def count() -> int:
            meter.steps += STEPS
            return 0

        connection.set_progress_handler(count, STEPS)
        try:
            yield meter
        finally:
            connection.set_progress_handler(None, 0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    yield from filled(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    yield from filled(tmp_path_factory.mktemp("large"), LARGE)


def filled(folder: Path, runs: int) -> Iterator[Database]:
    with open_database(f"sqlite:///{folder / 'metadata.db'}") as database:
        fill(database, runs)
        yield database


_Order = mlmd.ListOperationOptions.OrderByField
RUN = 7
ROOT = (RUN - 2) * (TASKS + 1) + 1
HOT = f"custom_properties.parent_dag_id.int_value = {ROOT}"


def options(text: str, order: str = "ID") -> mlmd.ListOperationOptions:
    by = _Order(field=_Order.Field.Value(order), is_asc=False)
    return mlmd.ListOperationOptions(max_result_size=100, filter_query=text, order_by_field=by)


def page(meter: Meter, kind: Kind, text: str, order: str = "ID", **scope: int) -> int:
    found, _ = lists.list_nodes(meter, kind, options(text, order), **scope)
    return len(found)


@pytest.mark.parametrize(
    ("kind", "text", "order", "scope", "found"),
    [
        (EXECUTION, HOT, "CREATE_TIME", {"context_id": RUN}, TASKS),
        (EXECUTION, HOT, "ID", {"context_id": RUN}, TASKS),
        (EXECUTION, HOT, "CREATE_TIME", {"context_id": 1}, TASKS),
        (EXECUTION, HOT, "ID", {"type_id": 100}, TASKS),
        (EXECUTION, HOT, "LAST_UPDATE_TIME", {}, TASKS),
        (EXECUTION, f"{HOT} AND custom_properties.cached.int_value = 1", "ID", {}, TASKS // 2),
        (EXECUTION, f"{HOT} OR custom_properties.parent_dag_id.int_value = 1", "ID", {}, 2 * TASKS),
        (EXECUTION, "custom_properties.cached.int_value = 1", "ID", {"context_id": RUN}, TASKS // 2),
        (EXECUTION, "name = '5/3'", "ID", {}, 1),
        (EXECUTION, "name = '5/3' OR name IN ('6/1')", "CREATE_TIME", {}, 2),
        (EXECUTION, "id IN (5, 6) AND last_known_state != COMPLETE", "ID", {}, 2),
        (EXECUTION, "external_id = 'x'", "ID", {}, 0),
        (EXECUTION, "contexts_a.name = 'run5'", "ID", {}, TASKS + 1),
        (EXECUTION, "contexts_a.type = 'Run' AND contexts_a.name = 'run5' AND type = 'Task'", "CREATE_TIME", {}, TASKS),
        (EXECUTION, "contexts_a.name = 'run5' AND contexts_b.name = 'pipeline'", "ID", {}, TASKS + 1),
        (EXECUTION, f"contexts_a.name = 'run9' OR {HOT}", "ID", {}, 2 * TASKS),
        (CONTEXT, "executions_a.name = '5/3' AND type = 'Run'", "ID", {}, 1),
    ],
)
def test_what_is_few_costs_the_same_in_a_large_store(
    small: Database, large: Database, kind: Kind, text: str, order: str, scope: dict[str, int], found: int
) -> None:
    steps = []
    for database in (small, large):
        with metered(database) as meter:
            assert page(meter, kind, text, order, **scope) == found
            assert meter.statements <= 3
            steps.append(meter.steps)
            assert "SCAN Execution" not in "".join(meter.plans())

    assert steps[1] <= 1.5 * steps[0] + 10 * STEPS, steps


@pytest.mark.parametrize("scope", [{}, {"context_id": 1}, {"type_id": 100}])
@pytest.mark.parametrize(
    "text",
    [
        "custom_properties.cached.int_value = 1",
        "type = 'Task'",
        "last_known_state != RUNNING",
        "type = 'Task' AND custom_properties.cached.int_value = 1 AND contexts_a.type = 'P'",
        "custom_properties.cached.int_value = 1 OR custom_properties.parent_dag_id.int_value > 3",
    ],
)
def test_what_is_many_costs_a_page(large: Database, text: str, scope: dict[str, int]) -> None:
    with metered(large) as meter:
        assert page(meter, EXECUTION, text, **scope) == 100
        assert meter.statements <= 3

    # There are 132,000 executions, and each costs more steps than one.
    assert meter.steps < LARGE * (TASKS + 1) * 3


@pytest.mark.parametrize("order", ["ID", "CREATE_TIME"])
def test_what_neither_is_few_nor_many_is_found_on_a_walk(large: Database, order: str) -> None:
    text = "custom_properties.sometimes.string_value = 'x'"
    with large.connection() as connection:
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO ExecutionProperty (execution_id, name, is_custom_property, string_value) "
            "SELECT id, 'sometimes', 1, 'x' FROM Execution WHERE id % 20 = 0"
        )
        try:
            meter = Meter(connection, large.dialect)
            assert page(meter, EXECUTION, text, order) == 100
            assert "idx_execution_property" not in meter.plans()[-2]
            walked, _ = lists.list_nodes(meter, EXECUTION, options(text, order))
            assert [node.id for node in walked] == list(range(132_000, 130_000, -20))
            # Where they are far from where the page begins, they are found all the same.
            connection.execute("DELETE FROM ExecutionProperty WHERE name = 'sometimes' AND execution_id > 90000")
            meter.ran.clear()
            walked, _ = lists.list_nodes(meter, EXECUTION, options(text, order))
            assert [node.id for node in walked] == list(range(90_000, 88_000, -20))
            assert len(meter.ran) <= 5
        finally:
            connection.execute("ROLLBACK")


def test_neighbours_that_are_not_compared_are_not_combined(large: Database) -> None:
    """One context has 132,000 executions: their pairs would never end."""
    with metered(large) as meter:
        assert page(meter, CONTEXT, "executions_a.name = 'x' OR executions_b.name = 'y'") == 0
        assert page(meter, CONTEXT, "executions_a.name = '5/3' AND executions_b.name LIKE '5/4'") == 2

    assert meter.steps < 10_000_000


def test_the_hot_read_begins_with_the_property_or_the_context_whichever_has_fewer(large: Database) -> None:
    with metered(large) as meter:
        few_of_many = plan.plan(meter, plan.read(EXECUTION, HOT), Scope("context", 1))
        many_in_few = plan.plan(
            meter, plan.read(EXECUTION, "custom_properties.cached.int_value = 1"), Scope("context", RUN)
        )
        assert few_of_many.begin is not None
        assert many_in_few.begin is None
        assert many_in_few.along_scope

        page(meter, EXECUTION, HOT, context_id=1)
        assert "idx_execution_property_int (name=? AND is_custom_property=? AND int_value=?)" in meter.plans()[-2]
        page(meter, EXECUTION, "custom_properties.cached.int_value = 1", context_id=RUN)
        walked = meter.plans()[-2]
        assert walked.startswith(
            "SEARCH Association USING COVERING INDEX sqlite_autoindex_Association_1 (context_id=?)"
        )
        assert "idx_execution_property" not in walked


def test_a_page_of_a_large_context_in_the_order_of_ids_is_not_sorted(large: Database) -> None:
    with metered(large) as meter:
        page(meter, EXECUTION, "last_known_state != RUNNING", context_id=1)
        assert "TEMP B-TREE" not in meter.plans()[-2]
