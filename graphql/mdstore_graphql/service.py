"""The API's part in `mdstore up`."""

from mdstore.services import Plan, Service


def service(plan: Plan) -> Service:
    """Serve the machine's store and graph."""
    return Service(
        name="graphql",
        arguments=(
            "graphql",
            "serve",
            "--database",
            plan.database_url,
            "--graph",
            plan.graph_url,
            "--http-port",
            str(plan.http_port),
        ),
        after=("lineage",),
        imports=("mdstore.store.reader", "mdstore_graphql.app", "mdstore_lineage.opening", "uvicorn"),
        ready_url=f"http://127.0.0.1:{plan.http_port}/healthz",
    )
