"""gRPC's side: its handlers hand each call's bytes to the dispatcher, and say its errors as gRPC does."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from time import monotonic
from typing import Any

import grpc

from mdstore.errors import MetadataError
from mdstore.server import refusals
from mdstore.server.calls import Method
from mdstore.server.dispatch import Dispatcher


class GrpcCaller:
    """Who makes a gRPC call."""

    __slots__ = ("_context",)

    def __init__(self, context: grpc.aio.ServicerContext) -> None:
        """Know the call's context."""
        self._context = context

    def peer(self) -> str:
        """As `Caller.peer`."""
        return str(self._context.peer())

    def client(self) -> str:
        """As `Caller.client`."""
        return str(self._context.peer()).rpartition(":")[0]

    def header(self, name: str) -> str:
        """As `Caller.header`."""
        return next((str(value) for key, value in self._context.invocation_metadata() if key == name), "")


class StoreHandlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Handlers for every method of the store's services.

    They take and give bytes: what cannot be parsed is then refused as the caller's mistake, and not as ours, as gRPC
    would have it.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Hand calls to `dispatcher`."""
        self._handlers = {
            method.path: _streaming(dispatcher, method) if method.streams else _unary(dispatcher, method)
            for method in dispatcher.methods.values()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a method, or None, which gRPC answers with UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)


def _unary(dispatcher: Dispatcher, method: Method) -> Any:
    async def handler(body: bytes, context: grpc.aio.ServicerContext) -> bytes | None:
        remaining = context.time_remaining()
        deadline = None if remaining is None else monotonic() + remaining
        try:
            return await dispatcher.unary(method, body, GrpcCaller(context), deadline)
        except MetadataError as error:
            await _abort(context, error)
        return None

    return grpc.unary_unary_rpc_method_handler(handler)


def _streaming(dispatcher: Dispatcher, method: Method) -> Any:
    async def handler(body: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        try:
            async with aclosing(dispatcher.stream(method, body, GrpcCaller(context))) as messages:
                async for message in messages:
                    yield message
        except MetadataError as error:
            await _abort(context, error)

    return grpc.unary_stream_rpc_method_handler(handler)


async def _abort(context: grpc.aio.ServicerContext, error: MetadataError) -> None:
    await context.abort(refusals.status(error).grpc, refusals.text(error), refusals.trailing_metadata(error))
