"""The projector's part in `mdstore up`."""

from mdstore.services import Plan, Service


def service(plan: Plan) -> Service:
    """Follow the machine's store into the machine's graph."""
    return Service(
        name="lineage",
        arguments=("lineage", "follow", "--store", plan.store_url, "--graph", plan.graph_url),
        after=("store",),
        ready_line="following the store",
    )
