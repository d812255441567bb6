"""The settings of `mdstore serve`, and what they come to."""

from typing import Annotated

from annotated_types import Interval
from pydantic_settings import BaseSettings, SettingsConfigDict

from mdstore.client.remote import MESSAGE_BYTES
from mdstore.server.calls import Limits
from mdstore.server.renewal import Certificates
from mdstore.server.serving import Plan
from mdstore.store.requests import KEEP_S


class ServeSettings(BaseSettings):
    """Each is an environment variable `MDSTORE_...`; some are flags of `mdstore serve` too, and the flag wins."""

    model_config = SettingsConfigDict(env_prefix="MDSTORE_", frozen=True, use_attribute_docstrings=True)

    database: str = ""
    """The database's URL: `sqlite:///FILE`, `postgresql://...`, `mysql://...`."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all of this machine's."""
    grpc_port: Annotated[int, Interval(ge=0, le=65535)] = 8080
    """The port of MLMD's gRPC service; 0 for a free one."""
    http_port: Annotated[int, Interval(ge=0, le=65535)] | None = None
    """A port for grpc-web, `/healthz` and `/metrics` over HTTP; none by default."""
    cors_origins: str = ""
    """Pages of other origins that may call the HTTP port, as `https://HOST:PORT`, separated by commas; `*` for all."""
    tls_certificate: str = ""
    """A PEM file with the server's certificate and those up to its authority; both ports speak TLS then."""
    tls_key: str = ""
    """A PEM file with the certificate's key, not encrypted."""
    tls_client_ca: str = ""
    """A PEM file of authorities; a client without a certificate of theirs is refused (mutual TLS)."""
    reconcile_s: Annotated[float, Interval(gt=0)] = 5.0
    """How often the change log takes in what other programs have written to the same database."""
    keep_answers_s: Annotated[float, Interval(ge=0)] = KEEP_S
    """How long a write with an idempotency key is answered as it was the first time."""
    max_message_bytes: Annotated[int, Interval(ge=1024, le=2**31 - 1)] = MESSAGE_BYTES
    """The largest request, and the largest answer."""
    max_calls: Annotated[int, Interval(ge=1)] = 2000
    """Calls at the same time; more are refused with `RESOURCE_EXHAUSTED` and a hint when to try again."""
    max_client_calls: Annotated[int, Interval(ge=1)] = 500
    """Calls of one client address at the same time; more are refused in the same way."""
    max_queued_writes: Annotated[int, Interval(ge=1)] = 1000
    """Writes that were accepted and are not on disk yet; more are refused in the same way."""
    max_write_items: Annotated[int, Interval(ge=1)] = 100_000
    """Nodes, events, links and types in one write."""
    max_streams: Annotated[int, Interval(ge=1)] = 200
    """Followers of the change log and readers of snapshots at the same time."""
    access_log: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """The share of calls that are logged: 0 for none, 1 for all; with any, those that failed are logged always."""
    traces_endpoint: str = ""
    """An OpenTelemetry collector for OTLP over gRPC, `http://HOST:PORT`; needs `mdstore[otel]`."""
    traces_share: Annotated[float, Interval(ge=0, le=1)] = 1.0
    """The share of calls that are traced; a caller that traces decides for its own."""

    def plan(self) -> Plan:
        """What to serve, and how.

        Raises:
            InvalidArgument: a certificate cannot be used.
        """
        return Plan(
            host=self.host,
            grpc_port=self.grpc_port,
            http_port=self.http_port,
            cors_origins=tuple(origin for part in self.cors_origins.split(",") if (origin := part.strip())),
            tls=Certificates.from_files(self.tls_certificate, self.tls_key, self.tls_client_ca),
            limits=Limits(
                calls=self.max_calls,
                client_calls=self.max_client_calls,
                queued_writes=self.max_queued_writes,
                write_items=self.max_write_items,
                message_bytes=self.max_message_bytes,
                streams=self.max_streams,
            ),
            access_log=self.access_log,
            traces_endpoint=self.traces_endpoint,
            traces_share=self.traces_share,
        )
