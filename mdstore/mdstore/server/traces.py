"""Calls as OpenTelemetry spans, sent to a collector by OTLP: needs `mdstore[otel]`, and nothing when not asked for."""

import threading
from typing import Any, Final, Protocol

import grpc

from mdstore.errors import InvalidArgument
from mdstore.server.calls import Caller, Method

FLUSH_S: Final = 1.0
"""How long the end of the server waits for spans to be sent."""


class Span(Protocol):
    """A call that is under way."""

    def end(self, code: str) -> None:
        """It is over, with this gRPC code."""


class Traces(Protocol):
    """Where spans are sent."""

    def begin(self, method: Method, caller: Caller) -> Span:
        """A call has begun; the caller's trace is continued when it sent one (`traceparent`)."""

    def close(self) -> None:
        """Send what is left."""


def to_collector(endpoint: str, share: float) -> Traces:
    """Send the spans of a share of the calls, 0.0 to 1.0, to an OTLP/gRPC collector.

    A caller that traces decides for its own calls. What OpenTelemetry's own `OTEL_...` variables say holds: headers,
    certificates, attributes of the resource.

    Args:
        endpoint: `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
        share: of the calls that belong to no trace yet.

    Raises:
        InvalidArgument: OpenTelemetry is not installed, or the endpoint is none.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise InvalidArgument(f"{endpoint!r} is no collector's address: write http://HOST:PORT")
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
    except ImportError as error:
        raise InvalidArgument(f"traces need `pip install 'mdstore[otel]'`: {error}") from error
    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: "mdstore"}),
        sampler=ParentBased(TraceIdRatioBased(share)),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return _Collector(provider)


class _Collector:
    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._provider = provider
        self._tracer = provider.get_tracer("mdstore")
        self._propagator = TraceContextTextMapPropagator()
        self._server = trace.SpanKind.SERVER
        self._error = trace.Status(trace.StatusCode.ERROR)

    def begin(self, method: Method, caller: Caller) -> Span:
        headers = {name: value for name in ("traceparent", "tracestate") if (value := caller.header(name))}
        service, _, name = method.name.rpartition("/")
        span = self._tracer.start_span(
            method.name,
            context=self._propagator.extract(headers),
            kind=self._server,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": name,
                "network.peer.address": caller.peer(),
            },
        )
        return _CallSpan(span, self._error)

    def close(self) -> None:
        # On a thread of its own: with a collector that does not answer, OpenTelemetry's own limits are not kept.
        closing = threading.Thread(target=self._provider.shutdown, name="mdstore-traces", daemon=True)
        closing.start()
        closing.join(FLUSH_S)


class _CallSpan:
    def __init__(self, span: Any, error: Any) -> None:
        self._span = span
        self._error = error

    def end(self, code: str) -> None:

        self._span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
        if code != "OK":
            self._span.set_status(self._error)
        self._span.end()
