"""Random filters over random stores: SQL finds what the definition in plain Python says."""

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdstore.store.database import Database
from mdstore.store.filterquery import plan
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, KINDS, Kind
from mdstore.store.operations import lists
from mdstore.store.transaction import Transaction
from mdstore.wire import mlmd
from tests.filterquery import evaluator
from tests.filterquery.conftest import rolled_back
from tests.filterquery.strategies import filters, worlds
from tests.filterquery.world import World

# The database outlives the examples, and each rolls back what it wrote.
_settings = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
_Order = mlmd.ListOperationOptions.OrderByField


def pages(tx: Transaction, kind: Kind, text: str, order: int, ascending: bool, **scope: int) -> list[int]:
    """All ids of a filtered list, page by page."""
    found: list[int] = []
    token = ""
    while True:
        options = mlmd.ListOperationOptions(
            max_result_size=2,
            filter_query=text,
            next_page_token=token,
            order_by_field=_Order(field=order, is_asc=ascending),  # type: ignore[arg-type]  # any of the enum's numbers
        )
        page, token = lists.list_nodes(tx, kind, options, **scope)
        assert len(page) <= 2
        found += [node.id for node in page]
        if not token:
            return found


@_settings
@given(world=worlds(), data=st.data())
def test_a_filter_finds_what_its_definition_says(database: Database, world: World, data: st.DataObject) -> None:
    with rolled_back(database) as tx:
        world.write(tx)
        for kind in KINDS:
            text = data.draw(filters(kind), label=kind.label)
            expected = evaluator.matching(world, plan.read(kind, text))

            assert plan.matching(tx, kind, text, None, 100) == expected
            assert plan.matching(tx, kind, text, [1, 3, 9], 100) == [found for found in expected if found in (1, 3)]


@_settings
@given(world=worlds(), data=st.data())
def test_a_filtered_list_is_the_list_without_what_the_filter_takes_out(
    database: Database, world: World, data: st.DataObject
) -> None:
    with rolled_back(database) as tx:
        world.write(tx)
        kind = data.draw(st.sampled_from((ARTIFACT, EXECUTION)))
        text = data.draw(filters(kind))
        field, name = data.draw(
            st.sampled_from(
                (
                    (_Order.ID, "id"),
                    (_Order.CREATE_TIME, "create_time_since_epoch"),
                    (_Order.LAST_UPDATE_TIME, "last_update_time_since_epoch"),
                )
            )
        )
        ascending = data.draw(st.booleans())
        nodes = world.nodes[kind]
        matched = evaluator.matching(world, plan.read(kind, text))

        def key(node_id: int) -> tuple[int, int]:
            return nodes[node_id].fields[name], node_id

        def listed(inside: Callable[[int], bool]) -> list[int]:
            return sorted((found for found in matched if inside(found)), key=key, reverse=not ascending)

        context = data.draw(st.sampled_from(list(world.nodes[CONTEXT])))
        members = set(world.members(kind, context))
        type_id = world.type_id(kind, data.draw(st.sampled_from(world.types[kind])))
        assert pages(tx, kind, text, field, ascending) == listed(lambda _: True)
        assert pages(tx, kind, text, field, ascending, context_id=context) == listed(lambda found: found in members)
        assert pages(tx, kind, text, field, ascending, type_id=type_id) == listed(
            lambda found: nodes[found].fields["type_id"] == type_id
        )
