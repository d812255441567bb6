"""What a page costs in a store of 3,300 executions and in one of 132,000: as much, in any order."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from mdstore.store import change_log, reconciling
from mdstore.store.database import Database, open_database
from mdstore.store.kinds import EXECUTION
from mdstore.store.operations import lists
from mdstore.wire import mlmd
from tests.filterquery.test_plan import STEPS, TASKS, fill, metered

SMALL, LARGE = 300, 12_000
RUN = 7
_Order = mlmd.ListOperationOptions.OrderByField


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Database]]:
    folder = tmp_path_factory.mktemp("growth")
    with (
        open_database(f"sqlite:///{folder / 'small.db'}") as small,
        open_database(f"sqlite:///{folder / 'large.db'}") as large,
    ):
        fill(small, SMALL)
        fill(large, LARGE)
        yield small, large


def options(order: str, ascending: bool, token: str = "") -> mlmd.ListOperationOptions:
    by = _Order(field=_Order.Field.Value(order), is_asc=ascending)
    return mlmd.ListOperationOptions(max_result_size=100, order_by_field=by, next_page_token=token)


ORDERS = list(product(("CREATE_TIME", "LAST_UPDATE_TIME", "ID"), (True, False)))


@pytest.mark.parametrize("scope", [{}, {"context_id": 1}, {"context_id": RUN}, {"type_id": 100}, {"type_id": 101}])
@pytest.mark.parametrize(("order", "ascending"), ORDERS)
def test_pages_cost_the_same_in_a_large_store(
    stores: tuple[Database, Database], order: str, ascending: bool, scope: dict[str, int]
) -> None:
    steps = []
    for database in stores:
        with metered(database) as meter:
            found, token = lists.list_nodes(meter, EXECUTION, options(order, ascending), **scope)
            if token:
                lists.list_nodes(meter, EXECUTION, options(order, ascending, token), **scope)
            assert len(found) == (TASKS + 1 if scope == {"context_id": RUN} else 100)
            assert meter.statements <= (6 if token else 3)
            steps.append(meter.steps)

    # To sort the largest scope takes two millions more.
    assert steps[1] <= 1.5 * steps[0] + 200_000, steps


@pytest.mark.parametrize("scope", [{"context_id": 1}, {"type_id": 100}])
@pytest.mark.parametrize(("order", "ascending"), ORDERS)
def test_pages_of_a_walk_are_those_of_a_sort(
    stores: tuple[Database, Database], order: str, ascending: bool, scope: dict[str, int]
) -> None:
    _, large = stores
    ids: list[int] = []
    token = ""
    with metered(large) as meter:
        for _ in range(5):
            page, token = lists.list_nodes(meter, EXECUTION, options(order, ascending, token), **scope)
            ids += [node.id for node in page]
        field = {"ID": "id"}.get(order, f"{order.lower()}_since_epoch")
        inside = "type_id = 100" if "type_id" in scope else "1"  # everything is in the context
        by = ", ".join(f"{name} {'ASC' if ascending else 'DESC'}" for name in (field, "id"))
        expected = meter.text_rows(f"SELECT id FROM Execution WHERE {inside} ORDER BY {by} LIMIT 500")
    assert ids == [row[0] for row in expected]


def test_members_that_are_far_from_where_the_page_begins_are_found(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path / 'far.db'}") as database:
        fill(database, 4000)
        with database.connection() as connection:
            # A context of the oldest 12,000 of 44,000.
            connection.execute("DELETE FROM Association WHERE context_id = 1 AND execution_id > 12000")
        with metered(database) as meter:
            newest, token = lists.list_nodes(meter, EXECUTION, options("CREATE_TIME", False), context_id=1)
            assert meter.statements <= 4
            more, _ = lists.list_nodes(meter, EXECUTION, options("CREATE_TIME", False, token), context_id=1)
    assert {node.create_time_since_epoch // 1000 for node in newest} <= set(range(1080, 1091))
    assert newest[-1].create_time_since_epoch >= more[0].create_time_since_epoch
    assert len({node.id for node in (*newest, *more)}) == 200


def test_opening_looks_at_what_was_lately_updated_only(stores: tuple[Database, Database]) -> None:
    for database in stores:
        with metered(database) as meter:
            assert list(reconciling._updated_since(meter, EXECUTION, 10**12)) == []
            assert "idx_execution_last_update_time_since_epoch" in meter.plans()[0]
            assert meter.steps <= STEPS


def test_following_reads_little_more_than_it_sends(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path / 'log.db'}") as database:
        with database.connection() as connection:
            connection.execute(
                "WITH RECURSIVE n(seq) AS (SELECT 100 UNION ALL SELECT seq + 1 FROM n WHERE seq < 999) "
                "INSERT INTO mdstore_commit SELECT seq, 0, 'mlmd', '', zeroblob(32), zeroblob(10) FROM n"
            )
        with metered(database) as meter:
            assert next(change_log.commits_from(meter, 100, 500)).seq == 100
            assert [parameters["most"] for _, parameters in meter.ran] == [change_log.PAYLOADS]
            assert [commit.seq for commit in change_log.commits_from(meter, 100, 500)] == list(range(100, 600))
            assert [commit.seq for commit in change_log.commits_from(meter, 950, 500)] == list(range(950, 1000))
