"""The HTTP application: `/graphql`, its page for people, and `/healthz`, over a reader and a graph that are handed in.

Threads: the event loop runs resolvers; reads of the database and the graph run in one thread pool.
"""

import gc
import json
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse
from strawberry.fastapi import GraphQLRouter
from strawberry.http import GraphQLHTTPResponse
from strawberry.types import ExecutionResult

from mdstore.errors import MetadataError
from mdstore.store.reader import Reader
from mdstore.vocabulary import ContextRoles
from mdstore_graphql import failures, graphiql
from mdstore_graphql.context import Context
from mdstore_graphql.loaders import Loaders
from mdstore_graphql.schema import make_schema
from mdstore_graphql.settings import GraphQLSettings
from mdstore_graphql.walks import GraphSource, Walks

log = structlog.get_logger()

MIN_POSITION: Final = "x-mdstore-min-position"
MAX_BODY_BYTES: Final = 1_000_000
"""A query as long as `schema.MAX_TOKENS` allows, with a thousand ids, is a tenth of that."""
READS: Final = "read"
"""How the names of the pool's threads begin."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where answers come from."""

    reader: Reader
    graph: GraphSource
    roles: ContextRoles


def application(sources: Sources, settings: GraphQLSettings) -> FastAPI:
    """The application. It closes the sources when it is shut down."""
    pool = ThreadPoolExecutor(settings.graphql_threads, thread_name_prefix=READS)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The schema is for ever: collecting garbage need not look through it again and again.
        gc.collect()
        gc.freeze()
        yield
        # Reads that still run are not waited for: nobody wants their answers any more.
        pool.shutdown(wait=False, cancel_futures=True)
        sources.graph.close()
        sources.reader.close()

    # No pages of FastAPI's: they load from elsewhere, and there is nothing to describe.
    app = FastAPI(title="mdstore", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES)
    app.include_router(_router(sources, settings, pool), prefix="/graphql")
    app.mount(graphiql.ASSETS_PATH, StaticFiles(directory=graphiql.ASSETS))

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """200 when both sources can be read; `position` is the graph's, `head` the store's."""
        loaders = Loaders(sources.reader, pool, max_nodes=0)
        try:
            head = await loaders.head_seq()
            position = await loaders.call(lambda: sources.graph.get().position)
        except MetadataError as error:
            return JSONResponse({"status": "unavailable", "reason": str(error)}, status_code=503)
        except Exception as error:
            # Whatever it is, it has to be answered: somebody is asking whether this process is of any use.
            log.exception("failed to look at the sources")
            return JSONResponse({"status": "unavailable", "reason": type(error).__name__}, status_code=503)
        return JSONResponse({"status": "ok", "head": head, "position": position})

    return app


def _router(sources: Sources, settings: GraphQLSettings, pool: Executor) -> GraphQLRouter[Context, None]:
    # HTTPConnection and not Request, because the same function serves WebSockets.
    async def context(connection: HTTPConnection) -> Context:
        return Context(
            loaders=Loaders(sources.reader, pool, max_nodes=settings.graphql_max_nodes),
            walks=Walks(
                sources.graph,
                pool,
                seconds=settings.graphql_walk_s,
                wait_s=settings.graphql_position_wait_s,
                min_position=connection.headers.get(MIN_POSITION),
            ),
            roles=sources.roles,
        )

    return _Router(make_schema(), context_getter=context, graphql_ide="graphiql", allow_queries_via_get=True)


class _Router(GraphQLRouter[Context, None]):
    """Strawberry's router with our page, our errors and a faster JSON."""

    async def render_graphql_ide(self, request: Request) -> HTMLResponse:  # noqa: ARG002 - the page is always the same
        return HTMLResponse(graphiql.PAGE, headers={"Content-Security-Policy": graphiql.POLICY})

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:  # noqa: ARG002
        response: dict[str, Any] = {"data": result.data}
        if result.errors:
            response["errors"] = [failures.formatted(error) for error in result.errors]
        return response  # type: ignore[return-value]  # a TypedDict with more keys than there are here

    def encode_json(self, data: object) -> bytes:
        return orjson.dumps(data)

    def decode_json(self, data: str | bytes) -> object:
        # Stricter than Python's: texts that are no Unicode, which no database takes, are errors here already.
        found: object = orjson.loads(data)
        # A body is bytes, and strawberry takes it for an object; GET's parameters are texts, and any JSON.
        if isinstance(data, bytes) and not isinstance(found, dict | list):
            raise json.JSONDecodeError("no JSON object", "", 0)
        return found
