"""Everything about the GraphQL server that a person may set."""

from typing import Annotated

from annotated_types import Ge, Interval
from pydantic_settings import BaseSettings, SettingsConfigDict


class GraphQLSettings(BaseSettings):
    """The first four are flags of `mdstore graphql serve` too, and the flag wins."""

    model_config = SettingsConfigDict(env_prefix="MDSTORE_", frozen=True, use_attribute_docstrings=True)

    database: str = ""
    """The database's URL: `sqlite:///FILE`, `postgresql://...`, `mysql://...`."""
    graph: str = ""
    """The lineage graph's URL, `sqlite:///FILE`."""
    http_port: Annotated[int, Interval(ge=0, le=65535)] = 8000
    """The port of `/graphql` and `/healthz`; 0 for a free one."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all of this machine's."""
    graphql_threads: Annotated[int, Ge(1)] = 8
    """Reads of the database and the graph that run at the same time."""
    graphql_max_nodes: Annotated[int, Ge(1)] = 50_000
    """Nodes that one request may load; one that needs more is refused with `RESOURCE_EXHAUSTED`."""
    graphql_walk_s: Annotated[float, Ge(0.01)] = 10.0
    """Time for one walk through the lineage graph; what it found by then is answered as cut by `TIME`."""
    graphql_position_wait_s: Annotated[float, Ge(0)] = 5.0
    """How long a request that demands a position waits for the lineage graph to get there."""
